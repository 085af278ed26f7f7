"""Is it right: PTX conformance, rows of large layers, suites, sanitizers."""

import json
import os
import re
import shutil
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor

from .build import ADDON, LIBRARY
from .machine import NO_DEVICE, OUT_OF_TIME, REHEARSAL, REHEARSAL_TOKENS, ROOT, output_of, say, shapes

SUITES = ["test/ops", "test/golden/devices.test.ts", "test/api"] + [
    f"test/devices/{name}.test.ts" for name in ("batches", "failures", "graphs", "memory", "tensors", "workers")
]
SANITIZER_TOOLS = ["memcheck", "racecheck", "initcheck", "synccheck"]
# Suites of cuda_tests whose kernels no card has run, or has run and changed since: what --prebuilt sanitizes.
NEW_SUITES = ["matmul_wg", "matmul_half", "select", "dispatch"]
# Of a case of conformance90, whose waits end by themselves within a few seconds.
CASE_SECONDS = 10


def conformance(check):
    began = time.monotonic()
    dump = check.out / "conformance"
    dump.mkdir(exist_ok=True)
    program = check.program("conformance")
    status = check.run("conformance", [program, "--dump", dump], 60)
    compared = check.run("conformance", [program, "--check", ROOT / "test/conformance/golden"], 60)
    # One file for all dumps, so that they are few to carry back.
    with tarfile.open(check.out / "conformance.tar.xz", "w:xz") as tar:
        tar.add(dump, "conformance")
    shutil.rmtree(dump)
    hopper, noted = conformance_of_hopper(check)
    check.record("conformance", began, ok=status == 0 and compared == 0 and all(hopper.values()), dump=status, compare=compared,
                 hopper=hopper, noted=noted)


def conformance_of_hopper(check):
    """What only sm_90a has, and the matmul on it. A wrong wait never ends: each case is a process with seconds to live."""
    program = check.program("conformance90")
    if not program.exists():
        return {}, []
    results = {}
    log = check.out / "conformance90.log"
    for case in (output_of([str(program), "--list"]) or "").split():
        status = check.run("conformance90", [program, case], 60 if check.options.emulated else CASE_SECONDS)
        if status == NO_DEVICE:
            return {}, []
        results[case] = status == 0
        say(f"conformance90 {case}: {'ok' if status == 0 else 'out of time' if status == OUT_OF_TIME else f'FAILED, status {status}'}")
    # The emulator would take every schedule in turn.
    schedule = ["--schedule", "forward"] if check.options.emulated else []
    matmul = [check.program("cuda_tests"), "--filter", "matmul_wg", *schedule]
    results["matmul"] = check.run("conformance90", matmul, 120 if check.options.emulated else 20) == 0
    noted = re.findall(r"^noted\s+(.*)$", log.read_text(errors="replace"), re.M)
    return results, noted


def numbers(check):
    """Rows of layers of published sizes against double precision, and rows alone against rows in a batch."""
    began = time.monotonic()
    emulated = check.options.emulated
    wanted = REHEARSAL if emulated else shapes()
    tokens = REHEARSAL_TOKENS if emulated else "1,64,512,4096"
    ended = {}
    for name, shape in wanted.items():
        if check.left() < 5:
            ended[name] = "no time left"
            continue
        status = check.run("numbers", [check.program("cuda_rows"), "--shape", shape, "--tokens", tokens], 60, results="numbers.jsonl")
        ended[name] = {0: "ok", OUT_OF_TIME: "out of time"}.get(status, f"status {status}")
    rows = check.objects("numbers.jsonl")
    worst = max((row["relativeError"] for row in rows if "relativeError" in row), default=None)
    other = [f"{row['shape']} T={row['tokens']}" for row in rows if row.get("rowAlone", {}).get("default") == "other bits"]
    good = all(row["ok"] for row in rows) and any("relativeError" in row for row in rows) and not any("status" in word for word in ended.values())
    summary = f"{len(rows)} lines, worst error {worst}, rows alone differ without batchInvariant in: {', '.join(other) or 'none'}"
    check.record("numbers", began, ok=good, summary=summary, shapes=ended)


def test(check):
    began = time.monotonic()
    env = {
        "SPARSE_EXPERTS_TEST_DEVICES": "cuda:0",
        "SPARSE_EXPERTS_CUDA_LIBRARY": str(check.program(LIBRARY)),
    }
    if check.program(ADDON).exists():
        env["SPARSE_EXPERTS_NATIVE_PATH"] = str(check.program(ADDON))
    if check.options.emulated:
        env["SPARSE_EXPERTS_EMULATED"] = "plain"
    filter_ = ["--filter", check.options.filter] if check.options.filter else []
    units = check.run("cuda_tests", [check.program("cuda_tests"), *filter_], 240)
    report = check.out / "vitest.json"
    suites = [suite for suite in (check.options.suites or SUITES) if (ROOT / suite).exists()]
    status = check.run(
        "vitest",
        ["node", ROOT / "node_modules/vitest/vitest.mjs", "run", "--project=!types", "--testTimeout=300000",
         f"--maxWorkers={max(2, (os.cpu_count() or 2) // 2)}",
         "--reporter=default", "--reporter=json", f"--outputFile.json={report}", *suites],
        420, env,
    )
    counts = {}
    if report.exists():
        found = json.loads(report.read_text())
        counts = {"passed": found["numPassedTests"], "failed": found["numFailedTests"], "skipped": found["numPendingTests"]}
    last = re.findall(r"(\d+) passed, (\d+) failed", (check.out / "cuda_tests.log").read_text(errors="replace"))
    counts["cudaTests"] = {"passed": int(last[-1][0]), "failed": int(last[-1][1])} if last else None
    ok = units == 0 and status == 0 and counts.get("passed", 0) > 0
    check.record("test", began, ok=ok, summary=json.dumps(counts), **counts)


def sanitize(check):
    began = time.monotonic()
    options = check.options
    if options.emulated:
        check.not_run("sanitize", "the emulator has detectors of its own")
        return
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if tool is None:
        check.not_run("sanitize", "compute-sanitizer is not installed here")
        return
    suites = (output_of([str(check.program("cuda_tests")), "--list"]) or "").split()
    if options.filter:
        suites = [suite for suite in suites if options.filter in suite]
    elif options.prebuilt:
        suites = [suite for suite in NEW_SUITES if suite in suites]
    results = {}
    seconds = 60 if options.prebuilt else options.seconds

    # The whole program is too slow under a sanitizer for one time limit: suite by suite, and several at once, since most of the
    # time is the host's.
    def one(pair):
        name, suite = pair
        status = check.run(
            f"sanitize-{name}-{suite}",
            [tool, "--tool", name, "--error-exitcode", "97", "--print-limit", "5", check.program("cuda_tests"), "--filter", suite],
            seconds,
        )
        results[f"{name} {suite}"] = {0: "clean", 97: "ERRORS", OUT_OF_TIME: "out of time"}.get(status, f"status {status}")

    with ThreadPoolExecutor(max(1, (os.cpu_count() or 2) * 3 // 4)) as pool:
        list(pool.map(one, [(name, suite) for name in SANITIZER_TOOLS for suite in suites]))
    with open(check.out / "sanitize.log", "w") as together:
        for file in sorted(check.out.glob("sanitize-*.log")):
            together.write(file.read_text(errors="replace"))
            file.unlink()
    log = (check.out / "sanitize.log").read_text(errors="replace")
    refused = re.search(r"(Device not supported.*|Error: Target application .*)", log)
    errors = [key for key, value in results.items() if value not in ("clean", "out of time")]
    late = sum(value == "out of time" for value in results.values())
    summary = f"{len(results) - len(errors) - late} clean, {len(errors)} with errors, {late} out of time" + (f" ({refused[1]})" if refused else "")
    check.record("sanitize", began, ok=not errors, summary=summary, results=results)
