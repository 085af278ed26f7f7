/**
 * Whether work leaves the event loop free, said without a figure of time: a share of the same run, or turns of the loop. Neither depends on
 * how fast the machine is or what else it does.
 */

import { setImmediate as nextTurn } from 'node:timers/promises'
import { vi } from 'vitest'

/**
 * The share of the time of `run` in which this thread's event loop was not waiting: near 0 where the work is done by other threads, 1
 * where it is done here.
 */
export async function shareOfLoop(run: () => Promise<unknown>): Promise<number> {
  await nextTurn()
  const before = performance.eventLoopUtilization()
  await run()
  return performance.eventLoopUtilization(before).utilization
}

/** Turns of the event loop until `promise` settles; rejects as it does. */
export async function turnsUntil(promise: Promise<unknown>): Promise<number> {
  let settled = false
  let turns = 0
  const settle = () => {
    settled = true
  }
  promise.then(settle, settle)
  while (!settled) {
    await nextTurn()
    turns++
  }
  await promise
  return turns
}

/**
 * Runs `body` with a clock that moves by `stepMs` at each reading. Work that yields once a slice of time is used up then yields after a
 * number of steps that depends on the work alone: with large steps after each one, with a clock that stands still never.
 */
export async function withClock<Result>(stepMs: number, body: () => Promise<Result>): Promise<Result> {
  let now = 0
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => {
    now += stepMs
    return now
  })
  try {
    return await body()
  } finally {
    clock.mockRestore()
  }
}
