/** A stand-in for NVIDIA's management library, as far as its energy counter goes. */

import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import path from 'node:path'

/** A GPU that always draws 500 W. */
const SOURCE = `
#include <time.h>
static int device;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char* bus, void** handle) {
  *handle = &device;
  return bus[0] == '0' ? 0 : 6;
}
int nvmlDeviceGetTotalEnergyConsumption(void* handle, unsigned long long* energy) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  *energy = now.tv_sec * 500000ull + now.tv_nsec / 2000ull;
  return handle == &device ? 0 : 2;
}
`

/** Compiles it into a folder; the library's file. Needs cc. */
export function compileEnergyCounter(directory: string): string {
  const library = path.join(directory, 'energy-counter.so')
  writeFileSync(`${library}.c`, SOURCE)
  const { status, stderr } = spawnSync('cc', ['-shared', '-fPIC', '-o', library, `${library}.c`])
  if (status !== 0) throw new Error(`cc: ${stderr}`)
  return library
}
