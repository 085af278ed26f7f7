"""What the machine with the GPU does not have: Node, the tests' packages, and (--prebuilt) every program, compiled beforehand."""

import json
import lzma
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from .build import build_tree, files_of, tree_of
from .machine import CARRIED, ROOT, RUNTIME, fail, output_of, say

LIMIT_BYTES = 64 * 2**20
PREBUILT = RUNTIME / "prebuilt"
# Not needed to run the suites and benchmarks.
UNUSED_PACKAGES = [
    "typescript", "@typescript", "prebuildify", "@types", "@biomejs", "clang-format-node", "@arethetypeswrong", "publint",
    "node-gyp", "cmake-js", "@publint", "npm-packlist", "fflate", "lru-cache", "highlight.js", "marked-terminal", "tar", "undici",
]
UNUSED_PREFIXES = ("lightningcss-linux-x64-musl",)


def revision():
    """The commit and whether the tree differs from it; in a copy whose repository does not know the packed commit, what --prepare found."""
    recorded = CARRIED / "revision"
    packed = recorded.read_text().strip() if recorded.exists() else "unknown"
    commit = output_of(["git", "rev-parse", "HEAD"], cwd=ROOT)
    known = output_of(["git", "cat-file", "-t", packed.split("+")[0]], cwd=ROOT) == "commit"
    if commit is None or (packed != "unknown" and not known):
        return packed
    changes = output_of(["git", "status", "--porcelain"], cwd=ROOT)
    return commit + ("+changes" if changes else "")


def pack_node():
    node = Path(output_of(["node", "-p", "process.execPath"]) or fail("--prepare needs node on PATH"))
    if "libnode" in (output_of(["ldd", str(node)]) or ""):
        fail(f"{node} needs its own libnode.so: use a Node from nodejs.org")
    stripped = CARRIED / "node"
    shutil.copy(node, stripped)
    subprocess.run(["strip", "--strip-all", stripped], check=True)
    say(f"packing {node} and node_modules; a minute or two")
    compress(stripped)

    modules = ROOT / "node_modules"
    unused = {modules / name for name in UNUSED_PACKAGES}

    def keep(member):
        path = ROOT / member.name
        unwanted = path.parent == modules and path.name.startswith(UNUSED_PREFIXES)
        if path in unused or unwanted or path == modules / ".cache":
            return None
        if re.search(r"\.(d\.[cm]?ts|map|md|markdown)$", path.name) and member.isfile():
            return None
        return member

    with tarfile.open(CARRIED / "node_modules.tar.xz", "w:xz", preset=6) as tar:
        tar.add(modules, "node_modules", filter=keep)


def compress(file):
    """FILE becomes FILE.xz; on all cores where the xz program is, since Python's own needs several times as long."""
    if shutil.which("xz"):
        subprocess.run(["xz", "-6", "-T0", "-f", file], check=True)
        return
    with open(file, "rb") as source, lzma.open(f"{file}.xz", "wb", preset=6) as target:
        shutil.copyfileobj(source, target)
    Path(file).unlink()


def pack_programs(emulated, architecture):
    """Builds every program and packs them: nothing is compiled where the GPU is."""
    tree = tree_of(emulated)
    log = ROOT / "build/gpu-prepare.log"
    say(f"building {'for the emulator' if emulated else architecture}; minutes")
    log.parent.mkdir(exist_ok=True)
    with open(log, "w") as file:

        def run(command):
            file.write(f"$ {' '.join(map(str, command))}\n")
            file.flush()
            return subprocess.run([str(part) for part in command], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False).returncode

        if build_tree(run, emulated, architecture) != 0:
            fail(f"the build failed: {log}")
    folder = CARRIED / "prebuilt"
    folder.mkdir()
    for name in files_of(emulated, architecture):
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(tree / name, target)
        subprocess.run(["strip", "--strip-unneeded", target], check=True)
    about = {"revision": revision(), "emulated": emulated, "architecture": architecture}
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n")
    with tarfile.open(CARRIED / "prebuilt.tar", "w") as tar:
        tar.add(folder, "prebuilt")
    shutil.rmtree(folder)
    compress(CARRIED / "prebuilt.tar")


def prepare(options):
    shutil.rmtree(CARRIED, ignore_errors=True)
    CARRIED.mkdir()
    if not options.without_node:
        pack_node()
    # The header of the C++ tests, which a machine with a GPU need not have.
    header = Path("/usr/include/doctest/doctest.h")
    if header.exists():
        (CARRIED / "doctest").mkdir()
        shutil.copy(header, CARRIED / "doctest")
    (CARRIED / "revision").write_text(revision() + "\n")
    if options.prebuilt:
        pack_programs(options.emulated, options.architecture)
    files = [file for file in CARRIED.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    if size > LIMIT_BYTES:
        fail(f".gpu-check is {size / 2**20:.1f} MiB, more than {LIMIT_BYTES >> 20}")
    say(f".gpu-check: {size / 2**20:.1f} MiB ({', '.join(sorted(f.name for f in CARRIED.iterdir()))})")


def unpack():
    """Puts Node on PATH and node_modules in place, from what was carried; a tree that has both keeps them."""
    node = RUNTIME / "node"
    if (CARRIED / "node.xz").exists():
        if not node.exists():
            RUNTIME.mkdir(parents=True, exist_ok=True)
            partial = RUNTIME / "node.part"
            with lzma.open(CARRIED / "node.xz") as source, open(partial, "wb") as target:
                shutil.copyfileobj(source, target)
            partial.chmod(0o755)
            partial.rename(node)
        os.environ["PATH"] = f"{RUNTIME}{os.pathsep}{os.environ['PATH']}"
    if not (ROOT / "node_modules").exists():
        archive = CARRIED / "node_modules.tar.xz"
        if not archive.exists():
            fail("neither node_modules nor .gpu-check/node_modules.tar.xz: run tools/release/gpu-check --prepare first, and bring .gpu-check along")
        with tarfile.open(archive) as tar:
            tar.extractall(ROOT)
    version = output_of(["node", "--version"])
    if version is None:
        fail("no Node runtime: run tools/release/gpu-check --prepare first, and bring .gpu-check along")
    return version


def unpack_programs(emulated):
    """The folder of the programs that were compiled beforehand, or None with the reason: then they are built here."""
    archive = CARRIED / "prebuilt.tar.xz"
    if not archive.exists():
        return None, "no .gpu-check/prebuilt.tar.xz: gpu-check --prepare --prebuilt makes it"
    shutil.rmtree(PREBUILT, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(RUNTIME)
    about = json.loads((PREBUILT / "about.json").read_text())
    if about["emulated"] != emulated:
        return None, f"what was packed is {'for the emulator' if about['emulated'] else 'for a GPU'}"
    if about["revision"].split("+")[0] != revision().split("+")[0]:
        return None, f"what was packed is revision {about['revision']}, the tree {revision()}"
    # A loader that is older than the programs refuses them.
    try:
        tried = subprocess.run([PREBUILT / "conformance", "--version"], capture_output=True, text=True, timeout=60, check=False)
    except OSError as error:
        return None, f"the programs do not start here: {error}"
    if tried.returncode != 0:
        return None, f"the programs do not start here: {(tried.stderr or tried.stdout).strip()[:200]}"
    return PREBUILT, "emulated" if emulated else about["architecture"]
