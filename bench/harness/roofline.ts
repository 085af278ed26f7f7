/** Figures that follow from a time, the work behind it and the machine's limits. */

import { limitsFor, type MachineLimits } from './machine.js'
import type { Row, Timing } from './results.js'

/** Work of one call; mean over the calls of a cell. */
export interface CallWork {
  flops: number
  weightBytes: number
  distinctExperts: number
}

export interface Limits {
  bytesPerSecond: number
  flopsPerSecond: number
}

/** The least time a call can take: every distinct weight read once, every multiply-add at the peak, both at the same time. */
export function rooflineMs(work: CallWork, limits: Limits): { ms: number; bound: 'memory' | 'compute' } {
  const memory = (work.weightBytes / limits.bytesPerSecond) * 1000
  const compute = (work.flops / limits.flopsPerSecond) * 1000
  return memory >= compute ? { ms: memory, bound: 'memory' } : { ms: compute, bound: 'compute' }
}

/** @param limits null where they were not measured */
export function figuresOf(
  timing: Timing,
  numTokens: number,
  work: CallWork,
  limits: Limits | null,
): Omit<Row, 'what' | 'shape' | 'device' | 'dtype' | 'load' | 'numTokens' | 'threads'> {
  const seconds = timing.medianMs / 1000
  const roofline = limits && rooflineMs(work, limits)
  return {
    ...timing,
    ...work,
    tokensPerSecond: numTokens / seconds,
    gflops: work.flops / seconds / 1e9,
    weightGBs: work.weightBytes / seconds / 1e9,
    rooflineShare: roofline && roofline.ms / timing.medianMs,
    bound: roofline?.bound ?? null,
  }
}

export function meanWork(works: readonly CallWork[]): CallWork {
  const mean = (of: (work: CallWork) => number) =>
    works.reduce((sum, work) => sum + of(work), 0) / Math.max(1, works.length)
  return {
    flops: mean(work => work.flops),
    weightBytes: mean(work => work.weightBytes),
    distinctExperts: mean(work => work.distinctExperts),
  }
}

/** A row's roofline again, from limits that were measured later in the run. */
export function withLimits(row: Row, machine: MachineLimits): Row {
  const limits = limitsFor(machine, row.dtype, row.threads)
  if (row.rooflineShare === null || !limits) return row
  const roofline = rooflineMs(row, limits)
  return { ...row, rooflineShare: roofline.ms / row.medianMs, bound: roofline.bound }
}
