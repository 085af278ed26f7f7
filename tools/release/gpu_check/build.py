"""How the programs are built, here or on the machine with the GPU."""

import os
import shutil
from pathlib import Path

from .machine import CARRIED, ROOT

# Below a tree, or in the folder of what was packed.
ADDON = "Release/sparse_experts.node"
LIBRARY = "Release/libsparse_experts_cuda.so"
PROGRAMS = ["conformance", "cuda_tests", "cuda_rows", "cuda_bench", "cuda_tune"]


def tree_of(emulated):
    return ROOT / ("build/gpu-emulated" if emulated else "build/gpu")


def programs_of(emulated, architecture):
    """With conformance90 where its code can run."""
    return PROGRAMS + (["conformance90"] if emulated or architecture == "90-real" else [])


def files_of(emulated, architecture):
    """What a run needs of a tree. On the emulator the addon is the repository's own."""
    return [*programs_of(emulated, architecture), LIBRARY, *([] if emulated else [ADDON])]


def targets_of(emulated, architecture):
    return ["sparse_experts_cuda", *([] if emulated else ["sparse_experts"]), *programs_of(emulated, architecture)]


def build_tree(run, emulated, architecture):
    """Configures and builds; `run` takes a command and returns its status. The C++ runtime is linked into the programs: the other machine's
    may be older."""
    tree = tree_of(emulated)
    definitions = [f"-DSE_ADDON_DIRECTORY={tree / Path(LIBRARY).parent}", "-DCMAKE_EXE_LINKER_FLAGS=-static-libstdc++ -static-libgcc"]
    if not emulated:
        definitions.append(f"-DCMAKE_CUDA_ARCHITECTURES={architecture}")
    if (CARRIED / "doctest").exists():
        definitions.append(f"-DSE_DOCTEST_DIRECTORY={CARRIED}")
    generator = "Ninja" if shutil.which("ninja") else "Unix Makefiles"
    jobs = str(os.cpu_count() or 2)
    status = run(["cmake", "--preset", "emulator" if emulated else "cuda", "-S", ".", "-B", tree, "-G", generator, *definitions])
    if status == 0:
        status = run(["cmake", "--build", tree, "--parallel", jobs, "--target", *targets_of(emulated, architecture)])
    return status
