/** How time grows: a line through time over T·k, and a power of the number of experts. Pure. */

import type { Row } from '../harness/results.js'
import { groupBy } from '../harness/tables.js'
import type { WeightKind } from '../harness/weight-kinds.js'

export interface LinearFit {
  slope: number
  intercept: number
  /** Coefficient of determination. */
  r2: number
}

/** Least squares of y over x, each point weighted by 1/y², so that small and large calls count alike. */
export function fitLine(points: readonly { x: number; y: number }[]): LinearFit {
  let [w, wx, wy, wxx, wxy] = [0, 0, 0, 0, 0]
  for (const { x, y } of points) {
    const weight = 1 / (y * y)
    w += weight
    wx += weight * x
    wy += weight * y
    wxx += weight * x * x
    wxy += weight * x * y
  }
  const slope = (w * wxy - wx * wy) / (w * wxx - wx * wx)
  const intercept = (wy - slope * wx) / w
  const mean = wy / w
  let [residual, total] = [0, 0]
  for (const { x, y } of points) {
    residual += (y - intercept - slope * x) ** 2 / (y * y)
    total += (y - mean) ** 2 / (y * y)
  }
  return { slope, intercept, r2: total === 0 ? 1 : 1 - residual / total }
}

export interface Growth {
  shape: string
  dtype: WeightKind
  threads: number
  /** Microseconds per token and expert once calls are compute-bound, and the fit's quality. */
  perSlotUs: number
  r2: number
  points: number
  /** Some of the points were measured beside other load. */
  disturbed: boolean
}

const someDisturbed = (rows: readonly Row[]) => rows.some(row => row.disturbed)

/** A line per shape and dtype through the calls of 64 tokens and more. */
export function growthOverTokens(
  rows: readonly Row[],
  topKOf: (shape: string) => number | undefined,
): Growth[] {
  const large = rows.filter(
    row => row.what === 'layer' && row.device === 'cpu' && row.load === 'gate' && row.numTokens >= 64,
  )
  return groupBy(large, row => `${row.shape} ${row.dtype} ${row.threads}`).flatMap(([, group]) => {
    const topK = topKOf(group[0]!.shape)
    if (topK === undefined || group.length < 3) return []
    const fit = fitLine(group.map(row => ({ x: row.numTokens * topK, y: row.medianMs })))
    const { shape, dtype, threads } = group[0]!
    return [
      {
        ...{ shape, dtype, threads, perSlotUs: fit.slope * 1000, r2: fit.r2 },
        ...{ points: group.length, disturbed: someDisturbed(group) },
      },
    ]
  })
}

export interface ExpertGrowth {
  dtype: WeightKind
  numTokens: number
  threads: number
  disturbed: boolean
  /** Time grows as this power of E: 0 is flat. */
  measured: number
  /** What the bytes and FLOPs of the experts that were hit make of it at the limits. */
  least: number
}

/** @param leastMs the least time that the limits allow a row */
export function growthOverExperts(rows: readonly Row[], leastMs: (row: Row) => number): ExpertGrowth[] {
  const sweep = rows.filter(row => row.what === 'layer' && row.load === 'gate' && /^E\d+$/.test(row.shape))
  const exponent = (group: readonly Row[], of: (row: Row) => number) =>
    fitPower(group.map(row => ({ x: Number(row.shape.slice(1)), y: of(row) })))
  return groupBy(sweep, row => `${row.dtype} ${row.numTokens} ${row.threads}`).flatMap(([, group]) => {
    if (group.length < 3) return []
    const { dtype, numTokens, threads } = group[0]!
    return [
      {
        ...{ dtype, numTokens, threads, disturbed: someDisturbed(group) },
        ...{ measured: exponent(group, row => row.medianMs), least: exponent(group, leastMs) },
      },
    ]
  })
}

/** The power p of y ∝ xᵖ, by least squares of the logarithms. */
export function fitPower(points: readonly { x: number; y: number }[]): number {
  const logs = points.map(({ x, y }) => ({ x: Math.log(x), y: Math.log(y) }))
  const mean = (of: (point: { x: number; y: number }) => number) =>
    logs.reduce((sum, point) => sum + of(point), 0) / logs.length
  const [x, y] = [mean(point => point.x), mean(point => point.y)]
  return mean(point => (point.x - x) * (point.y - y)) / mean(point => (point.x - x) ** 2)
}
