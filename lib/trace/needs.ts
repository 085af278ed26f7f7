/** Which distinct experts the calls of a trace need: what a cache is asked for. */

import { allocate } from '../block/allocate.js'
import type { Pacer } from '../checkpoint/pacer.js'
import type { Trace } from './trace.js'

/** Calls, one after another. */
export interface Needs {
  readonly numCalls: number
  /** Index of each call's layer in the trace, `[numCalls]`. */
  readonly layers: Int32Array
  /** Call c needs `experts[offsets[c]]` to `experts[offsets[c + 1]]`, distinct and rising. `[numCalls + 1]` */
  readonly offsets: Int32Array
  readonly experts: Int32Array
  /** Rows of the call that each of them gets. */
  readonly rows: Int32Array
}

/** One call: rows of a layer. */
interface Cut {
  layer: number
  first: number
  rows: number
}

/** Calls that are looked at between two looks at the clock. */
const CALLS_AT_A_TIME = 1024

/**
 * @param tokensPerCall calls of more rows are cut into calls of so many, as if the tokens had come a few at a time: all layers run for the
 * first tokens, then all for the next. What belongs together are calls one after another of as many rows, each of another layer.
 * 0: as recorded
 */
export async function needsOf(trace: Trace, tokensPerCall: number, pacer: Pacer): Promise<Needs> {
  let [numCalls, numNeeds] = [0, 0]
  for (const { rows, layer } of cuts(trace, tokensPerCall)) {
    numCalls++
    const { numExperts, topK } = trace.layers[layer]!
    numNeeds += Math.min(rows * topK, numExperts)
  }
  const layers = allocate(Int32Array, numCalls)
  const offsets = allocate(Int32Array, numCalls + 1)
  const experts = allocate(Int32Array, numNeeds)
  const rowsOf = allocate(Int32Array, numNeeds)
  const counts = trace.layers.map(({ numExperts }) => allocate(Int32Array, numExperts))
  let [call, end] = [0, 0]
  for (const { layer, first, rows } of cuts(trace, tokensPerCall)) {
    const { numExperts, topK } = trace.layers[layer]!
    const ids = trace.topkIds[layer]!
    const count = counts[layer]!
    for (let slot = first * topK; slot < (first + rows) * topK; slot++)
      if (ids[slot]! < numExperts) count[ids[slot]!]!++
    for (let expert = 0; expert < numExperts; expert++) {
      if (count[expert] === 0) continue
      experts[end] = expert
      rowsOf[end++] = count[expert]!
      count[expert] = 0
    }
    layers[call++] = layer
    offsets[call] = end
    if (call % CALLS_AT_A_TIME === 0 && pacer.due) await pacer.turn()
  }
  return { numCalls, layers, offsets, experts: experts.subarray(0, end), rows: rowsOf.subarray(0, end) }
}

function* cuts(trace: Trace, tokensPerCall: number): Generator<Cut> {
  const first = allocate(Int32Array, trace.layers.length)
  let step: Cut[] = []
  for (let call = 0; call < trace.numCalls; call++) {
    const [layer, rows] = [trace.calls.layer[call]!, trace.calls.rows[call]!]
    if (step.length > 0 && (step[0]!.rows !== rows || step.some(other => other.layer === layer))) {
      yield* cutStep(step, tokensPerCall)
      step = []
    }
    step.push({ layer, first: first[layer]!, rows })
    first[layer]! += rows
  }
  yield* cutStep(step, tokensPerCall)
}

function* cutStep(step: readonly Cut[], tokensPerCall: number): Generator<Cut> {
  const rows = step[0]?.rows ?? 0
  const most = tokensPerCall === 0 ? rows : tokensPerCall
  for (let begin = 0; begin < rows; begin += most)
    for (const { layer, first } of step)
      yield { layer, first: first + begin, rows: Math.min(most, rows - begin) }
}
