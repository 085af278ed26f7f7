/** Writes a layer of a golden checkpoint as llama.cpp's converters do: their names, their order of dimensions. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { WeightMatrix } from '../../lib/block/weights.js'
import { type LoadedMatrices, loadMatrices } from '../../lib/checkpoint/load/matrices.js'
import { readVectors } from '../../lib/checkpoint/load/vectors.js'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import type { LayerPlan } from '../../lib/checkpoint/plan/layer-plan.js'
import type { VectorTensors } from '../../lib/spec/vectors.js'
import { type GgufFile, type GgufTensor, ggufBytes, ggufValue } from '../helpers/gguf-writer.js'
import type { GoldenCase } from './cases.js'
import type { GgufCase } from './gguf-cases.js'

const directories: string[] = []

export function removeGguf(): void {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true })
}

/** A file of a directory of its own. */
export function writeGguf(file: GgufFile, name = 'model.gguf'): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'sparse-experts-gguf-'))
  directories.push(directory)
  const to = path.join(directory, name)
  writeFileSync(to, ggufBytes(file))
  return to
}

export type Metadata = Record<string, Parameters<typeof ggufValue>[0] | undefined>

/** Keys as converters write them, those of the architecture with its name before them. */
export function keysOf(architecture: string, metadata: Metadata): NonNullable<GgufFile['keys']> {
  return [
    ['general.architecture', ggufValue(architecture)],
    ...Object.entries(metadata).flatMap(([key, value]) =>
      value === undefined ? [] : [[`${architecture}.${key}`, ggufValue(value)] as const],
    ),
    ['tokenizer.ggml.tokens', ggufValue(['<s>', '</s>'])],
  ]
}

/** Everything of a layer, decoded to f32. */
export interface LayerValues {
  vectors: VectorTensors
  matrices: LoadedMatrices
}

export async function valuesOf(plan: LayerPlan): Promise<LayerValues> {
  return { vectors: await readVectors(plan), matrices: await loadMatrices(plan, 'f32') }
}

/** A matrix `[rows, cols]`, dense. */
export function dense(matrix: WeightMatrix, rows: number, cols: number): Float32Array {
  if (matrix instanceof Float32Array) return matrix
  const {
    data,
    offset = 0,
    strides,
  } = matrix as {
    data: Float32Array
    offset?: number
    strides: readonly [number, number]
  }
  const out = new Float32Array(rows * cols)
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < cols; j++) out[i * cols + j] = data[offset + i * strides[0] + j * strides[1]]!
  return out
}

const bytesOf = (values: Float32Array | Int32Array) =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength)

/** The tensors of a layer in F32. */
export function layerTensors({ config, layer }: LayerPlan, { vectors, matrices }: LayerValues): GgufTensor[] {
  const { numExperts, hiddenSize, intermediateSize, latentSize, sharedIntermediateSize } = config
  const size = latentSize || hiddenSize
  const tensors: GgufTensor[] = []
  const add = (name: string, values: Float32Array | Int32Array | undefined, ...shape: number[]) => {
    if (!values) return
    const type = values instanceof Int32Array ? 'I32' : 'F32'
    tensors.push({ name: `blk.${layer}.${name}`, type, shape, data: bytesOf(values) })
  }
  const addExperts = (name: string, matrix: 'gate' | 'up' | 'down', rows: number, cols: number) => {
    const all = new Float32Array(numExperts * rows * cols)
    for (const [e, expert] of matrices.experts.entries()) {
      const one = expert[matrix]
      if (!one) return
      all.set(dense(one, rows, cols), e * rows * cols)
    }
    add(name, all, numExperts, rows, cols)
  }
  add('attn_norm.weight', new Float32Array(hiddenSize), hiddenSize)
  add('ffn_norm.weight', new Float32Array(hiddenSize), hiddenSize)
  add('ffn_gate_inp.weight', vectors.routerWeight, numExperts, hiddenSize)
  add('ffn_gate_inp.bias', vectors.routerBias, numExperts)
  add('ffn_gate_inp.scale', vectors.routerInputScale, hiddenSize)
  add('exp_probs_b.bias', vectors.selectionBias, numExperts)
  const { hashTable } = vectors
  add('ffn_gate_tid2eid.weight', hashTable, (hashTable?.length ?? 0) / config.topK, config.topK)
  addExperts('ffn_gate_exps.weight', 'gate', intermediateSize, size)
  addExperts('ffn_up_exps.weight', 'up', intermediateSize, size)
  addExperts('ffn_down_exps.weight', 'down', size, intermediateSize)
  add('ffn_gate_exps.bias', vectors.gateBias, numExperts, intermediateSize)
  add('ffn_up_exps.bias', vectors.upBias, numExperts, intermediateSize)
  add('ffn_down_exps.bias', vectors.downBias, numExperts, size)
  add('ffn_down_exps.scale', vectors.perExpertScale, numExperts)
  const { shared, latentDown, latentUp } = matrices
  if (shared) {
    const width = sharedIntermediateSize
    if (config.sharedGate === 'sigmoid') add('ffn_gate_inp_shexp.weight', vectors.sharedGate, hiddenSize)
    if (shared.gate) add('ffn_gate_shexp.weight', dense(shared.gate, width, hiddenSize), width, hiddenSize)
    add('ffn_up_shexp.weight', dense(shared.up, width, hiddenSize), width, hiddenSize)
    add('ffn_down_shexp.weight', dense(shared.down, hiddenSize, width), hiddenSize, width)
  }
  if (latentDown)
    add('ffn_latent_down.weight', dense(latentDown, latentSize, hiddenSize), latentSize, hiddenSize)
  if (latentUp) add('ffn_latent_up.weight', dense(latentUp, hiddenSize, latentSize), hiddenSize, latentSize)
  return tensors
}

/** A golden checkpoint's layer as a file of its architecture, and the layer as it was read from the checkpoint. */
export async function ggufOf(
  { directory, expected }: GoldenCase,
  { architecture, metadata }: GgufCase,
): Promise<{ file: GgufFile; plan: LayerPlan; values: LayerValues }> {
  const plan = await planLayer(directory, { layer: expected.layer })
  const values = await valuesOf(plan)
  const json = JSON.parse(readFileSync(path.join(directory, 'config.json'), 'utf8'))
  const text = json.text_config ?? json
  const { numExperts, topK, hiddenSize, intermediateSize } = plan.config
  const keys = keysOf(architecture, {
    block_count: NUM_LAYERS,
    context_length: 4096,
    embedding_length: hiddenSize,
    feed_forward_length: 3,
    expert_feed_forward_length: intermediateSize,
    'attention.layer_norm_rms_epsilon': text.rms_norm_eps ?? 1e-5,
    expert_count: numExperts,
    expert_used_count: topK,
    ...metadata({ ...text, num_hidden_layers: NUM_LAYERS, ...padded(text) }),
  })
  return { file: { keys, tensors: [...decoys(expected.layer), ...layerTensors(plan, values)] }, plan, values }
}

const NUM_LAYERS = 64

/** Lists with an entry per layer, for as many layers as the file has. */
function padded(config: Record<string, unknown>): Record<string, number[]> {
  return Object.fromEntries(
    ['swiglu_limits', 'swiglu_limits_shared'].flatMap(field => {
      const list = config[field]
      return Array.isArray(list)
        ? [[field, Array.from({ length: NUM_LAYERS }, (_, layer) => list[layer] ?? 0)]]
        : []
    }),
  )
}

/** Tensors that belong to no layer with experts, or to another one, in shapes that would not do. */
export function decoys(layer: number): GgufTensor[] {
  const decoy = (name: string, ...shape: number[]): GgufTensor => ({
    ...{ name, type: 'F32', shape },
    data: new Uint8Array(4 * shape.reduce((product, length) => product * length, 1)),
  })
  return [
    decoy('token_embd.weight', 5, 8),
    decoy(`blk.${layer}1.ffn_gate_inp.weight`, 3, 8),
    decoy(`blk.${layer}1.ffn_down_exps.weight`, 3, 8, 2),
    decoy(`blk.${layer + 40}.ffn_gate.weight`, 3, 8),
    decoy('output.weight', 5, 8),
  ]
}
