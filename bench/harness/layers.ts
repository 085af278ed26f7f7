/** The layers that a benchmark times, and their calls: copies and inputs take turns, so that weights come from memory. */

import { makeInputs } from './inputs.js'
import type { BenchLoad } from './load.js'
import { MoeLayer, type MoeWeights } from './package.js'
import { type CallWork, meanWork } from './roofline.js'
import type { BenchShape } from './shapes.js'
import type { Trace } from './trace.js'
import { arithmeticOf, isStoredForm, type WeightKind } from './weight-kinds.js'
import { makeBenchWeights } from './weights.js'

export interface LayerMaking {
  shape: BenchShape
  dtype: WeightKind
  device: string
  threads: number
}

/** The weights are only needed to make the layers: as a local of this function they are garbage once it returns. */
export function makeLayers({ shape, dtype, device, threads }: LayerMaking, copies: number, isDense: boolean) {
  const { config, weights } = makeBenchWeights(shape, dtype)
  const create = (changes: { topK?: number } = {}, kept: MoeWeights = weights) =>
    MoeLayer.create({ ...config, ...changes }, kept, { device: device as 'cpu', threads, ...holding(dtype) })
  const layers = Array.from({ length: copies }, () => create())
  return { layers, dense: isDense ? create({ topK: config.numExperts }) : null }
}

/** The options of a layer that is to hold weights of that kind as they are. Builds before codes know no `weights`. */
export function holding(kind: WeightKind) {
  const dtype = arithmeticOf(kind)
  return isStoredForm(kind) ? { dtype, weights: 'stored' as const } : { dtype }
}

export interface Calls {
  /** One call: the next input on the next copy. */
  next(): unknown
  /** Mean over the inputs. */
  work: CallWork
}

/** Runs every input once, for its work and for pages that were never touched. @returns undefined where no trace fits the shape */
export function callsOf(
  shape: BenchShape,
  load: BenchLoad,
  numTokens: number,
  layers: readonly MoeLayer[],
  traces: readonly Trace[] = [],
): Calls | undefined {
  const inputs = makeInputs(shape, load, numTokens, layers.length, traces)
  if (!inputs) return undefined
  const run = (turn: number) => {
    const { hidden, options } = inputs[turn % inputs.length]!
    return layers[turn % layers.length]!.forwardSync(hidden, options)
  }
  const works = inputs.map((_, turn) => workOf(run(turn).work))
  let turn = 0
  return { next: () => run(turn++), work: meanWork(works) }
}

function workOf(work: { flops: number; weightBytes: number; expertTokens: Int32Array }): CallWork {
  let distinctExperts = 0
  for (const tokens of work.expertTokens) if (tokens > 0) distinctExperts++
  return { flops: work.flops, weightBytes: work.weightBytes, distinctExperts }
}
