"""The energy that the GPU says it has used since its driver was loaded: nvmlDeviceGetTotalEnergyConsumption of NVIDIA's management library."""

import ctypes
import time


class EnergyCounter:
    """Of the GPU with this PCI bus id ("0000:01:00.0"). Raises OSError where nobody counts."""

    def __init__(self, bus, library="libnvidia-ml.so.1"):
        self.library = ctypes.CDLL(library)
        self.device = ctypes.c_void_p()
        self.ask("nvmlInit_v2")
        self.ask("nvmlDeviceGetHandleByPciBusId_v2", bus.encode(), ctypes.byref(self.device))
        self.joules()

    def ask(self, name, *arguments):
        try:
            function = getattr(self.library, name)
        except AttributeError:
            raise OSError(f"no {name} in the management library") from None
        status = function(*arguments)
        if status != 0:
            raise OSError(f"{name} says {status}")

    def joules(self):
        energy = ctypes.c_ulonglong()
        self.ask("nvmlDeviceGetTotalEnergyConsumption", self.device, ctypes.byref(energy))
        return energy.value * 1e-3


def window(counter, run, wait, seconds):
    """Calls `run` again and again for at least that long, and `wait` after each few: (calls, seconds, joules). A quarter of the time goes
    by before, in which clocks and voltage settle."""
    began = time.monotonic()
    run()
    wait()
    once = max(time.monotonic() - began, 1e-6)
    batch = max(1, min(1000, int(5e-3 / once)))
    while time.monotonic() - began < seconds / 4:
        run()
        wait()
    calls = 0
    before = counter.joules()
    began = time.monotonic()
    while True:
        for _ in range(batch):
            run()
        wait()
        calls += batch
        passed = time.monotonic() - began
        if passed >= seconds:
            return calls, passed, counter.joules() - before
