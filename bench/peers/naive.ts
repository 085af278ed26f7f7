/** The loop that one writes first: per token and chosen expert, three matrix-vector products in plain JavaScript. */

import { type ExpertWeights, toFloat32 } from '../harness/package.js'
import { inputOf, type Peer, type PeerLayer, timeCalls } from '../harness/peer.js'
import { bitsOf } from './layer-files.js'

/** Its layer in f32 beside everything else; a larger one takes minutes to show what a small one does. */
const MAX_BYTES = 500e6

interface Matrices {
  gate: Float32Array
  up: Float32Array
  down: Float32Array
}

export function createNaive(layer: PeerLayer): Peer {
  const { config, weights } = layer
  const bytes = 12 * config.numExperts * config.hiddenSize * config.intermediateSize
  if (bytes > MAX_BYTES) throw new Error('slow: shown on the small shape only')
  const widen = (expert: ExpertWeights): Matrices => ({
    gate: toFloat32(bitsOf(expert.gate), 'bf16'),
    up: toFloat32(bitsOf(expert.up), 'bf16'),
    down: toFloat32(bitsOf(expert.down), 'bf16'),
  })
  const experts = weights.experts.map(widen)
  const shared = weights.shared && widen(weights.shared)
  const router = weights.router!.weight as Float32Array
  const run = (hidden: Float32Array) => naiveForward(hidden, router, experts, shared, config.topK)
  return {
    name: 'JavaScript loop',
    dtype: 'f32',
    times: (numTokens, first, calls) => timeCalls(layer, numTokens, first, calls, run),
    output: async numTokens => run(inputOf(layer, numTokens, 0)),
    async close() {},
  }
}

function multiply(matrix: Float32Array, x: Float32Array, out: Float32Array): void {
  const cols = x.length
  for (let row = 0; row < out.length; row++) {
    let sum = 0
    const from = row * cols
    for (let col = 0; col < cols; col++) sum += matrix[from + col]! * x[col]!
    out[row] = sum
  }
}

function addExpert(expert: Matrices, x: Float32Array, weight: number, out: Float32Array): void {
  const width = expert.gate.length / x.length
  const gate = new Float32Array(width)
  const up = new Float32Array(width)
  multiply(expert.gate, x, gate)
  multiply(expert.up, x, up)
  for (let i = 0; i < width; i++) gate[i] = (gate[i]! / (1 + Math.exp(-gate[i]!))) * up[i]!
  const down = new Float32Array(x.length)
  multiply(expert.down, gate, down)
  for (let h = 0; h < x.length; h++) out[h]! += weight * down[h]!
}

/** Softmax over the router's logits, the best `topK`, renormalised. */
export function naiveForward(
  hidden: Float32Array,
  router: Float32Array,
  experts: readonly Matrices[],
  shared: Matrices | undefined,
  topK: number,
): Float32Array {
  const hiddenSize = router.length / experts.length
  const output = new Float32Array(hidden.length)
  const logits = new Float32Array(experts.length)
  for (let from = 0; from < hidden.length; from += hiddenSize) {
    const x = hidden.subarray(from, from + hiddenSize)
    const out = output.subarray(from, from + hiddenSize)
    multiply(router, x, logits)
    const chosen = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b).slice(0, topK)
    const scores = chosen.map(expert => Math.exp(logits[expert]! - logits[chosen[0]!]!))
    const sum = scores.reduce((a, b) => a + b, 0)
    for (const [k, expert] of chosen.entries()) addExpert(experts[expert]!, x, scores[k]! / sum, out)
    if (shared) addExpert(shared, x, 1, out)
  }
  return output
}
