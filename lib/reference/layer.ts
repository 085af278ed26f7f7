/**
 * The whole block, in steps: router logits and selection for every row, then row by row the experts, their weighted sum and the
 * shared experts. A generator, so that one driver runs it straight through and another lets the event loop breathe.
 */

import { allocate } from '../block/allocate.js'
import type { ResolvedMoeConfig } from '../block/config.js'
import { runExpert } from './expert.js'
import { normalizeRouterInput, normalizeRow } from './gate.js'
import { multiply } from './matrix.js'
import { sigmoid } from './scores.js'
import { type SelectCall, type SelectOutput, Selector } from './select.js'
import { type LayerTensors, sharedActivation } from './tensors.js'

/** One pass over T rows. Routing goes to, or with `replay` comes from, `topkIds` and `topkWeights`. */
export interface LayerPass extends SelectCall, SelectOutput {
  readonly numTokens: number
  /** Copies row `token` of the hidden states, `[H]`. */
  readHidden(token: number, row: Float64Array): void
  /** The same of what the router reads; null: the hidden states. */
  readonly readRouterInput: ((token: number, row: Float64Array) => void) | null
  /** Stores row `token` of the output; `false` when not all of it is finite. */
  writeOutput(token: number, row: Float64Array): boolean
  /** Receives the logits of a row, without the soft-cap. */
  readonly onLogits?: (token: number, logits: Float64Array) => void
  /** The routing is given and the gate does not run. */
  readonly replay: boolean
}

function* routeRows(
  config: ResolvedMoeConfig,
  tensors: LayerTensors,
  pass: LayerPass,
): Generator<void, void, void> {
  const selector = new Selector(config, tensors.routing, pass, pass)
  const read = pass.readRouterInput ?? pass.readHidden
  const row = allocate(Float64Array, config.hiddenSize)
  const logits = allocate(Float64Array, tensors.router.rows)
  for (let token = 0; token < pass.numTokens; token++) {
    read(token, row)
    const scale = tensors.routerInputScale
    const input = scale ? normalizeRouterInput(row, scale, config.routerNormEpsilon) : row
    yield* multiply(tensors.router, input, tensors.routerBias, logits)
    pass.onLogits?.(token, logits)
    selector.row(token, logits)
    yield
  }
  yield* selector.finish()
}

/** Σ_k w_k · E_k(x) of one row, in rising k, into `sum` `[D]`. Identity experts (LongCat) give x itself. */
function* routedSum(
  config: ResolvedMoeConfig,
  tensors: LayerTensors,
  pass: LayerPass,
  token: number,
  x: Float64Array,
  sum: Float64Array,
): Generator<void, void, void> {
  const { topK, numExperts, weightOn } = config
  const expertOutput = allocate(Float64Array, x.length)
  sum.fill(0)
  for (let slot = token * topK; slot < (token + 1) * topK; slot++) {
    const id = pass.topkIds[slot]!
    const weight = pass.topkWeights[slot]!
    if (id < 0) continue
    if (id >= numExperts) {
      for (let d = 0; d < x.length; d++) sum[d] = sum[d]! + weight * x[d]!
    } else if (weightOn === 'input') {
      yield* runExpert(
        tensors.experts[id]!,
        config,
        x.map(v => weight * v),
        expertOutput,
      )
      for (let d = 0; d < x.length; d++) sum[d] = sum[d]! + expertOutput[d]!
    } else {
      yield* runExpert(tensors.experts[id]!, config, x, expertOutput)
      for (let d = 0; d < x.length; d++) sum[d] = sum[d]! + weight * expertOutput[d]!
    }
    yield
  }
}

/** Adds the shared experts to `y`: plain, times a gate (Qwen2-MoE), or mixed with the routed part (MiniMax-Text-01). */
function* addShared(
  config: ResolvedMoeConfig,
  tensors: LayerTensors,
  x: Float64Array,
  y: Float64Array,
): Generator<void, void, void> {
  if (!tensors.shared) return
  const shared = yield* runExpert(
    tensors.shared,
    sharedActivation(config),
    x,
    allocate(Float64Array, x.length),
  )
  let c = 1
  if (tensors.sharedGate) {
    const logit = yield* multiply(tensors.sharedGate, x, tensors.sharedLogitBias, new Float64Array(1))
    c = sigmoid(logit[0]!)
  }
  const routedPart = config.sharedGate === 'mix' ? 1 - c : 1
  for (let h = 0; h < y.length; h++) y[h] = routedPart * y[h]! + c * shared[h]!
}

/** Runs a block. Each row's result depends on that row alone, save where experts have a capacity. */
export function* runLayer(
  config: ResolvedMoeConfig,
  tensors: LayerTensors,
  pass: LayerPass,
): Generator<void, void, void> {
  if (!pass.replay) yield* routeRows(config, tensors, pass)
  const x = allocate(Float64Array, config.hiddenSize)
  const y = allocate(Float64Array, config.hiddenSize)
  const latent = config.latentSize > 0 ? allocate(Float64Array, config.latentSize) : null
  const latentSum = latent && allocate(Float64Array, latent.length)
  for (let token = 0; token < pass.numTokens; token++) {
    if (pass.nonFinite[token]) {
      pass.writeOutput(token, y.fill(Number.NaN))
      continue
    }
    pass.readHidden(token, x)
    if (latent && latentSum) {
      yield* multiply(tensors.latentDown!, x, null, latent)
      yield* routedSum(config, tensors, pass, token, latent, latentSum)
      const norm = tensors.latentNorm
      const sum = norm ? normalizeRow(latentSum, norm, config.latentNormEpsilon) : latentSum
      yield* multiply(tensors.latentUp!, sum, null, y)
    } else yield* routedSum(config, tensors, pass, token, x, y)
    yield* addShared(config, tensors, x, y)
    const bias = tensors.outputBias
    if (bias) for (let h = 0; h < y.length; h++) y[h] = y[h]! + bias[h]!
    if (!pass.writeOutput(token, y)) pass.nonFinite[token] = 1
    yield
  }
}
