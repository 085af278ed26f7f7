"""One run of gpu-check: its time, its report, and the programs that it starts."""

import datetime
import json
import os
import signal
import subprocess
import time
from pathlib import Path

from .machine import OUT_OF_TIME, ROOT, objects_in, say
from .packing import revision


class Check:
    def __init__(self, options):
        self.options = options
        self.out = Path(options.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.deadline = time.monotonic() + options.seconds
        self.failed = False
        self.report = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(), "revision": revision(), "phases": {}}
        previous = self.out / "gpu-check.json"
        if previous.exists():  # a later call adds its phases
            before = json.loads(previous.read_text())
            if before.get("revision") == self.report["revision"]:
                self.report["phases"] = before.get("phases", {})
        # Where the programs lie, once they are there.
        self.programs = None

    def program(self, name):
        return self.programs / name

    def left(self, at_most=10_000):
        return max(1, min(at_most, self.deadline - time.monotonic()))

    def run(self, name, command, seconds, env=None, results=None):
        """Runs a command into OUT/<name>.log, shows the end of it, and returns its status (124: out of time). What it prints goes to
        OUT/<results> instead where that is named, straight from the program: what was measured before a program ends badly, or out of
        time, is there."""
        log = self.out / f"{name}.log"
        with open(log, "a") as file:
            file.write(f"$ {' '.join(map(str, command))}\n")
            file.flush()
            printed = open(self.out / results, "a") if results else file
            # A session of its own: at the end of its time all of it ends. What a sanitizer started would go on alone, and share
            # the GPU with whatever is measured next.
            process = subprocess.Popen(
                [str(part) for part in command], cwd=ROOT, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
                stdout=printed, stderr=file, start_new_session=True,
            )
            try:
                status = process.wait(self.left(seconds))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                status = OUT_OF_TIME
                file.write("\nout of time\n")
            if results:
                printed.close()
        if status != 0:
            print("\n".join(log.read_text(errors="replace").splitlines()[-40:]), flush=True)
        return status

    def objects(self, results):
        """What programs printed into OUT/<results> so far."""
        file = self.out / results
        return objects_in(file.read_text(errors="replace")) if file.exists() else []

    def record(self, phase, began, **result):
        """`ok` is None for a phase that did not run: neither a success nor a failure."""
        ok = result.pop("ok")
        self.failed = self.failed or ok is False
        result = {"ok": ok, "seconds": round(time.monotonic() - began, 1), **result}
        self.report["phases"][phase] = result
        self.write()
        if ok is None:
            say(f"{phase}: NOT RUN: {result['notRun']}")
            return
        say(f"{phase}: {'ok' if ok else 'FAILED'} after {result['seconds']} s" + (f": {result['summary']}" if result.get("summary") else ""))

    def not_run(self, phase, reason):
        self.record(phase, time.monotonic(), ok=None, notRun=reason)

    def summarise(self):
        """The last word: phases that say nothing about this machine are not passed over."""
        phases = self.report["phases"]
        by_result = {True: "passed", False: "FAILED", None: "NOT RUN"}
        parts = [
            f"{', '.join(names)} {word}"
            for result, word in by_result.items()
            if (names := [name for name, phase in phases.items() if phase["ok"] is result])
        ]
        self.report["summary"] = "; ".join(parts)
        self.write()
        say(self.report["summary"])

    def write(self):
        partial = self.out / "gpu-check.part"
        partial.write_text(json.dumps(self.report, indent=1) + "\n")
        partial.replace(self.out / "gpu-check.json")
