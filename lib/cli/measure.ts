/** Timing a layer's forwards, and comparing them with the reference. */

import type { ActivationsOption } from '../block/activations.js'
import type { ResolvedMoeConfig } from '../block/config.js'
import type { DType } from '../block/dtype.js'
import { errorBound, relativeError, rowsWithOtherIds } from '../devices/accuracy.js'
import { median } from './load-chart.js'

/** What is needed of a layer here. */
export interface MeasuredLayer {
  readonly config: Readonly<ResolvedMoeConfig>
  readonly dtype: DType
  readonly activations: ActivationsOption
  forward(hiddenStates: Float32Array, options?: CallOptions): Promise<CheckedResult>
}

/** What is compared of a forward. */
export interface CheckedResult {
  output: Float32Array
  topkIds: Int32Array
  nonFiniteRows: Int32Array
}

/** Options that go through to each forward. */
export interface CallOptions {
  topK?: number
  topP?: number
  tokenIds?: Int32Array
  routerInput?: Float32Array
  signal?: AbortSignal
}

const MAX_RUNS = 7
const BUDGET_MS = 2000

/** Times `run` up to seven times within two seconds, after one that does not count; one that takes longer than that is the only one. */
export async function timeRuns<T>(
  run: () => Promise<T>,
): Promise<{ result: T; times: number[]; medianMs: number }> {
  const began = performance.now()
  let result = await run()
  const times = [performance.now() - began]
  if (times[0]! < BUDGET_MS) {
    times.pop()
    const end = performance.now() + BUDGET_MS
    do {
      const start = performance.now()
      result = await run()
      times.push(performance.now() - start)
    } while (times.length < MAX_RUNS && performance.now() < end)
  }
  return { result, times, medianMs: median(times) }
}

/** How the rows of a forward compare with the reference. */
export interface CheckResult {
  checkedRows: number
  numTokens: number
  /** Of the rows that were looked at, those whose router logits or output neither side calls finite: they hold nothing to compare. */
  nonFiniteRows: number
  relativeError: number
  bound: number
  /** Rows (of the whole call) whose experts differ. */
  rowsWithOtherIds: number[]
  ok: boolean
}

/** The reference does about this much in a second or two. */
const CHECK_FLOPS = 2e9

/** Rows to check: all, or as many evenly spaced ones as the reference does in a few seconds. */
export function sampleRows(numTokens: number, flopsPerToken: number, limit = CHECK_FLOPS): number[] {
  const count = Math.min(numTokens, Math.max(1, Math.floor(limit / Math.max(1, flopsPerToken))))
  return Array.from({ length: count }, (_, i) => Math.floor((i * numTokens) / count))
}

/** Copies rows of `[numTokens, columns]`. */
export function takeRows<A extends Float32Array | Int32Array>(
  array: A,
  columns: number,
  rows: readonly number[],
): A {
  const taken = new (array.constructor as new (length: number) => A)(rows.length * columns)
  rows.forEach((row, i) => {
    taken.set(array.subarray(row * columns, (row + 1) * columns), i * columns)
  })
  return taken
}

/**
 * Compares rows of a forward with the reference on the same rows.
 *
 * @param reference the same layer on the reference, its weights as exact as the checkpoint holds them
 * @param rows must be all rows where the fate of one row depends on others (families with expert capacity)
 */
export async function checkRows(
  layer: MeasuredLayer,
  reference: MeasuredLayer,
  hiddenStates: Float32Array,
  result: CheckedResult,
  rows: readonly number[],
  options: CallOptions = {},
): Promise<CheckResult> {
  const { hiddenSize, topK } = layer.config
  const { tokenIds, routerInput } = options
  const expected = await reference.forward(takeRows(hiddenStates, hiddenSize, rows), {
    ...options,
    ...(tokenIds && { tokenIds: takeRows(tokenIds, 1, rows) }),
    ...(routerInput && { routerInput: takeRows(routerInput, hiddenSize, rows) }),
  })
  const flagged = new Set(result.nonFiniteRows)
  const flaggedThere = new Set(Array.from(expected.nonFiniteRows, index => rows[index]!))
  // A row that both call not finite holds NaN and no ids worth comparing; one that a single side flags stays in, and fails.
  const kept = rows.flatMap((row, index) => (flagged.has(row) && flaggedThere.has(row) ? [] : [index]))
  const keptRows = kept.map(index => rows[index]!)
  const error = relativeError(
    takeRows(result.output, hiddenSize, keptRows),
    takeRows(expected.output, hiddenSize, kept),
  )
  const other = rowsWithOtherIds(
    takeRows(result.topkIds, topK, keptRows),
    takeRows(expected.topkIds, topK, kept),
    topK,
  )
  const bound = errorBound(layer)
  return {
    checkedRows: rows.length,
    numTokens: hiddenStates.length / hiddenSize,
    nonFiniteRows: rows.length - kept.length,
    relativeError: error,
    bound,
    rowsWithOtherIds: other.map(row => keptRows[row]!),
    ok: error <= bound && other.length === 0,
  }
}
