/**
 * Times one cell: calls it again and again under tinybench while other load is watched, repeats it when that load was there, and keeps
 * the least disturbed repeat. A cell whose repeats were all disturbed says so.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { Bench } from 'tinybench'
import { isDisturbed, leastDisturbed, watchLoad } from '../harness/other-load.js'
import type { Timing } from '../harness/results.js'

export interface CellOptions {
  timeMs: number
  retries: number
}

/** Calls of longer than this are repeated thrice instead of five times. */
const LONG_MS = 1000
const PAUSE_MS = 300

/** @param call one iteration; what it returns is ignored */
export async function timeCell(call: () => unknown, { timeMs, retries }: CellOptions): Promise<Timing> {
  const began = performance.now()
  call()
  const once = performance.now() - began
  return leastDisturbed(retries, async attempt => {
    if (attempt > 0) await sleep(PAUSE_MS)
    return timeOnce(call, timeMs, once > LONG_MS ? 3 : 5)
  })
}

function timeOnce(call: () => unknown, timeMs: number, iterations: number): Timing {
  const bench = new Bench({ time: timeMs, iterations, warmup: false, throws: true })
  bench.add('call', () => {
    call()
  })
  const watch = watchLoad()
  bench.runSync()
  const foreignCores = watch.stop()
  const result = bench.tasks[0]!.result
  if (!('latency' in result)) throw new Error(`tinybench ended as ${result.state}`)
  const { p50, p99, samplesCount } = result.latency
  return {
    medianMs: p50,
    p99Ms: p99,
    samples: samplesCount,
    foreignCores,
    disturbed: isDisturbed(foreignCores),
  }
}

/** Median microseconds of an asynchronous call, and other load meanwhile. */
export async function timeAsync(
  call: () => Promise<unknown>,
  { timeMs, retries }: CellOptions,
): Promise<{ medianUs: number; foreignCores: number | null }> {
  return leastDisturbed(retries, async () => {
    const bench = new Bench({ time: timeMs, iterations: 20, warmupTime: timeMs / 4, throws: true })
    bench.add('call', async () => {
      await call()
    })
    const watch = watchLoad()
    await bench.run()
    const foreignCores = watch.stop()
    const result = bench.tasks[0]!.result
    if (!('latency' in result)) throw new Error(`tinybench ended as ${result.state}`)
    return { medianUs: result.latency.p50 * 1000, foreignCores }
  })
}
