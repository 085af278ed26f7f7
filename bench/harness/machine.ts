/**
 * What this machine can do at most, measured in the same run as the figures: builds and runs `machine_limits` (bench/harness). The best
 * of several measurements counts: other load can only lower one, and a share of too low a limit would flatter the kernels.
 */

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import os from 'node:os'
import { buildProgram } from './native-program.js'
import { countEndedChild, isDisturbed, watchLoad } from './other-load.js'
import { devices } from './package.js'
import { arithmeticOf, type WeightKind } from './weight-kinds.js'

export interface Rate {
  best: number
  median: number
}

/** Limits with a number of threads; GB/s and GFLOP/s. */
export interface ThreadLimits {
  threads: number
  readGBs: Rate
  /** Absent where the processor has no such unit. */
  fmaGflops?: Rate
  bf16Gflops?: Rate
}

export interface MachineLimits {
  fmaInstruction: string | null
  bf16Instruction: string | null
  threads: ThreadLimits[]
  /** Cores' worth of other work in the quietest measurement: limits found in company may be too low, and shares of them too high. */
  foreignCores: number | null
}

/** What the program prints: CPU time is its own, which is no other load. */
export type Measured = Omit<MachineLimits, 'foreignCores'> & { cpuMs: number }

/** @throws when the program does not run here */
function measureMachine(program: string, threads: readonly number[], milliseconds: number): MachineLimits {
  const args = ['--threads', threads.join(','), '--milliseconds', String(milliseconds)]
  const watch = watchLoad()
  const { status, stdout, error } = spawnSync(program, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (error || status !== 0) throw new Error(`machine_limits failed: ${error?.message ?? `status ${status}`}`)
  const { cpuMs, ...limits } = JSON.parse(stdout) as Measured
  countEndedChild(cpuMs)
  return { ...limits, foreignCores: watch.stop() }
}

/** Milliseconds of the rounds of one figure. */
const MEASURE_MS = 300
export const QUICK_MEASURE_MS = 40
/** Repeats of a measurement that other load disturbed. */
const RETRIES = 2

/**
 * What measures the limits with the given numbers of threads. A machine where the program cannot be built (no compiler) still has times:
 * then it gives null, and says so once. Repeats that other load makes necessary count together, figure by figure.
 */
export function machineMeasurement(
  threads: readonly number[],
  { milliseconds = MEASURE_MS, retries = RETRIES } = {},
): () => MachineLimits | null {
  const counts = [...new Set(threads)].sort((a, b) => a - b)
  let program: string
  try {
    program = buildProgram('machine_limits')
  } catch (error) {
    console.log(`limits of the machine: not measured (${(error as Error).message.split('\n')[0]})`)
    return () => null
  }
  return () => {
    let best = measureMachine(program, counts, milliseconds)
    for (let retry = 0; retry < retries && isDisturbed(best.foreignCores); retry++) {
      best = bestOf(best, measureMachine(program, counts, milliseconds))
    }
    return best
  }
}

const better = (a: Rate | undefined, b: Rate | undefined) =>
  a === undefined || b === undefined ? (a ?? b) : a.best >= b.best ? a : b

const least = (a: number | null, b: number | null) => (a === null || b === null ? (a ?? b) : Math.min(a, b))

/** The better of two measurements, figure by figure. */
export function bestOf(a: MachineLimits, b: MachineLimits): MachineLimits {
  const counts = [...new Set([...a.threads, ...b.threads].map(row => row.threads))].sort((x, y) => x - y)
  const threads = counts.map(count => {
    const [first, second] = [a, b].map(machine => machine.threads.find(row => row.threads === count))
    return {
      threads: count,
      readGBs: better(first?.readGBs, second?.readGBs)!,
      fmaGflops: better(first?.fmaGflops, second?.fmaGflops),
      bf16Gflops: better(first?.bf16Gflops, second?.bf16Gflops),
    }
  })
  return { ...a, threads, foreignCores: least(a.foreignCores, b.foreignCores) }
}

/**
 * Limits of a forward; bf16 without a bf16 unit, and f16 anywhere, is widened to f32.
 *
 * @param rate the best round is what the machine can do; the median is what it did, to set beside the median of calls of the same moment
 */
export function limitsFor(
  machine: MachineLimits,
  kind: WeightKind,
  threads: number,
  rate: keyof Rate = 'best',
): { bytesPerSecond: number; flopsPerSecond: number } | null {
  const row = machine.threads.find(limits => limits.threads === threads)
  const peak = (arithmeticOf(kind) === 'bf16' ? row?.bf16Gflops : undefined) ?? row?.fmaGflops
  if (!row || !peak) return null
  return { bytesPerSecond: row.readGBs[rate] * 1e9, flopsPerSecond: peak[rate] * 1e9 }
}

/** Bytes of the last cache level that cores share; an estimate where the system does not say. */
export function lastLevelCacheBytes(): number {
  try {
    const text = readFileSync('/sys/devices/system/cpu/cpu0/cache/index3/size', 'utf8')
    const [, size, unit] = /^(\d+)([KMG]?)/.exec(text)!
    return Number(size) * { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, '': 1 }[unit as 'K' | 'M' | 'G' | '']
  } catch {
    return 32 * 2 ** 20
  }
}

export interface Environment {
  cpu: string
  /** Instruction set that the package's kernels take here: one name of a CPU stands for several generations of it. */
  architecture: string
  cores: number
  memoryBytes: number
  lastLevelCacheBytes: number
  node: string
  platform: string
}

export function environment(): Environment {
  return {
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    architecture: devices().find(({ id }) => id === 'cpu')?.architecture ?? '',
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    lastLevelCacheBytes: lastLevelCacheBytes(),
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
  }
}
