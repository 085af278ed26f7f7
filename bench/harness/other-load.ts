/**
 * Who else uses the machine while a cell is measured: the busy time of all cores (/proc/stat, time stolen by the host included) less the
 * CPU time of this process. Linux counts both in ticks of 10 ms, so an interval below 100 ms says little.
 */

import { readFileSync } from 'node:fs'

const TICK_MS = 10
/** Cores' worth of other work above which a figure is not one of this machine alone. */
export const DISTURBED_CORES = 0.15
/** Busy time that the ticks alone can make up. */
const BLUR_MS = 3 * TICK_MS

/** Busy milliseconds since boot, all cores together, from the first line of /proc/stat. */
export function busyMs(stat: string): number {
  const fields = /^cpu\s+(.+)$/m.exec(stat)?.[1]?.split(/\s+/).map(Number) ?? []
  // user nice system idle iowait irq softirq steal; guest time is in user already.
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = fields
  return (user + nice + system + irq + softirq + steal) * TICK_MS
}

/** Cores' worth of work of others in an interval. */
export function foreignCores(busy: number, own: number, wallMs: number): number {
  if (wallMs <= 0) return 0
  const foreign = busy - own
  return foreign <= BLUR_MS ? 0 : foreign / wallMs
}

/** Whether other load was there; nobody knows where the system does not say. */
export function isDisturbed(cores: number | null): boolean {
  return (cores ?? 0) > DISTURBED_CORES
}

/** Measures again, up to `retries` times, while other load is there; gives the least disturbed of the measurements. */
export async function leastDisturbed<T extends { foreignCores: number | null }>(
  retries: number,
  measure: (attempt: number) => Promise<T> | T,
): Promise<T> {
  let best = await measure(0)
  for (let attempt = 1; attempt <= retries && isDisturbed(best.foreignCores); attempt++) {
    const again = await measure(attempt)
    if ((again.foreignCores ?? 0) < (best.foreignCores ?? 0)) best = again
  }
  return best
}

export interface LoadWatch {
  /** Cores' worth of other work since the watch began; null where the system does not say. */
  stop(): number | null
}

function readStat(): string | null {
  if (process.platform !== 'linux') return null
  try {
    return readFileSync('/proc/stat', 'utf8')
  } catch {
    return null
  }
}

/** CPU time of a process of ours, its threads included; 0 once it has ended. */
export function processCpuMs(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
    return (Number(fields[11]) + Number(fields[12])) * TICK_MS
  } catch {
    return 0
  }
}

let endedChildrenMs = 0

/** CPU time of a child process of ours that has ended: what was measured in it is not other load. */
export function countEndedChild(cpuMs: number): void {
  endedChildrenMs += cpuMs
}

/** @param childrenCpuMs CPU time of measured child processes that still run, which is not other load */
export function watchLoad(childrenCpuMs: () => number = () => 0): LoadWatch {
  const before = readStat()
  const began = performance.now()
  const own = process.cpuUsage()
  const children = childrenCpuMs()
  const ended = endedChildrenMs
  return {
    stop() {
      const after = readStat()
      if (before === null || after === null) return null
      const { user, system } = process.cpuUsage(own)
      const ownMs = (user + system) / 1000 + childrenCpuMs() - children + endedChildrenMs - ended
      return foreignCores(busyMs(after) - busyMs(before), ownMs, performance.now() - began)
    },
  }
}
