/**
 * The model's feed-forwards as a GGUF file, under the names and metadata of llama.cpp's converter for its architecture. Attention, norms and
 * embeddings are not in it: the decoder reads them from model.safetensors.
 */

import { fromFloat32, MoeModel, type ResolvedMoeConfig } from 'sparse-experts'
import { type GgufTensor, type GgufValue, writeGguf } from '../../../bench/harness/gguf-writer.js'
import { TensorFile } from '../decoder/checkpoint.js'
import { readDecoderConfig } from '../decoder/config.js'
import { Decoder } from '../decoder/decoder.js'
import {
  createDense,
  denseName,
  denseSize,
  type FeedForwardOptions,
  readMlp,
} from '../decoder/feed-forward.js'
import { type BlockType, blockColumns, encodeMatrix, nvfp4Scale } from './encode.js'
import { readSparse } from './sparse-tensors.js'

/** Matrices whose rows are no whole blocks stay in bf16, as llama.cpp leaves them in 16 bits. */
const fits = (type: BlockType, cols: number) => cols % blockColumns(type) === 0

/** A matrix of all experts, or the only one of a shared expert. */
function tensorsOf(
  type: BlockType,
  name: string,
  matrices: readonly Float32Array[],
  rows: number,
  cols: number,
): GgufTensor[] {
  const dims = matrices.length === 1 ? [cols, rows] : [cols, rows, matrices.length]
  const tensor = (of: string, parts: readonly ArrayBufferView[]): GgufTensor => ({
    ...{ name: `${name}.weight`, type: of, dims },
    parts: () => parts,
  })
  if (!fits(type, cols))
    return [
      tensor(
        'bf16',
        matrices.map(matrix => fromFloat32(matrix, 'bf16')),
      ),
    ]
  const globalScale = Math.max(...matrices.map(matrix => nvfp4Scale(type, matrix)))
  const blocks = tensor(
    type,
    matrices.map(matrix => encodeMatrix(type, matrix, rows, cols, globalScale).data),
  )
  if (type !== 'nvfp4') return [blocks]
  const factors = new Float32Array(matrices.length).fill(globalScale)
  return [blocks, { name: `${name}.scale`, type: 'f32', dims: [matrices.length], parts: () => [factors] }]
}

/** Writes `file`. */
export async function writeTinyGguf(directory: string, type: BlockType, file: string): Promise<void> {
  const config = await readDecoderConfig(directory)
  await using source = await TensorFile.open(directory)
  const tensors: GgufTensor[] = []
  let block: ResolvedMoeConfig | undefined
  for (let layer = config.firstSparseLayer; layer < config.numLayers; layer++) {
    const sparse = await readSparse(directory, source, layer)
    block = sparse.config
    const { hiddenSize, intermediateSize, sharedIntermediateSize, numExperts } = block
    const at = (name: string) => `blk.${layer}.${name}`
    const floats = (name: string, dims: readonly number[], data: Float32Array): GgufTensor => ({
      ...{ name: at(name), type: 'f32', dims },
      parts: () => [data],
    })
    tensors.push(
      floats('ffn_gate_inp.weight', [hiddenSize, numExperts], sparse.router),
      floats('exp_probs_b.bias', [numExperts], sparse.selectionBias),
    )
    for (const [suffix, width, experts] of [
      ['exps', intermediateSize, sparse.experts],
      ['shexp', sharedIntermediateSize, [sparse.shared]],
    ] as const) {
      for (const which of ['gate', 'up', 'down'] as const) {
        const [rows, cols] = which === 'down' ? [hiddenSize, width] : [width, hiddenSize]
        const matrices = experts.map(expert => expert[which])
        tensors.push(...tensorsOf(type, at(`ffn_${which}_${suffix}`), matrices, rows, cols))
      }
    }
  }
  if (!block) throw new Error('the model has no sparse layer')
  writeGguf(file, metadataOf(block, config.numLayers, config.firstSparseLayer), tensors)
}

function metadataOf(
  block: ResolvedMoeConfig,
  numLayers: number,
  numDense: number,
): Record<string, GgufValue> {
  const fields: Record<string, GgufValue> = {
    block_count: { uint32: numLayers },
    leading_dense_block_count: { uint32: numDense },
    embedding_length: { uint32: block.hiddenSize },
    expert_feed_forward_length: { uint32: block.intermediateSize },
    expert_count: { uint32: block.numExperts },
    expert_used_count: { uint32: block.topK },
    expert_shared_count: { uint32: block.numSharedExperts },
    expert_group_count: { uint32: block.numExpertGroups },
    expert_group_used_count: { uint32: block.topkGroup },
    expert_weights_scale: { float32: block.routedScalingFactor },
    expert_weights_norm: { bool: true },
    // Sigmoid.
    expert_gating_func: { uint32: 2 },
  }
  return {
    'general.architecture': 'deepseek2',
    ...Object.fromEntries(
      Object.entries(fields).map(([name, value]) => [`deepseek2.${name}`, value] as const),
    ),
  }
}

/** The decoder with the feed-forwards of a file, as they are stored; its dense ones in blocks of the same type. */
export async function loadTinyGguf(
  directory: string,
  file: string,
  type: BlockType,
  options: FeedForwardOptions,
): Promise<Decoder> {
  const config = await readDecoderConfig(directory)
  const { hiddenSize } = config
  await using source = await TensorFile.open(directory)
  const stored = { ...options, weights: 'stored' as const }
  const sparse = await MoeModel.load(file, stored)
  const feedForwardOf = async (layer: number) => {
    if (layer >= config.firstSparseLayer) return sparse.layer(layer)
    const intermediateSize = denseSize(source, layer)
    const expert = await readMlp(source, denseName(layer), hiddenSize, intermediateSize)
    const coded = (matrix: Float32Array, rows: number, cols: number) => {
      const { data, globalScale } = encodeMatrix(type, matrix, rows, cols)
      const format = type === 'mxfp4' || type === 'nvfp4' ? (`ggml_${type}` as const) : type
      return { format, data, ...(type === 'nvfp4' ? { globalScale } : {}) }
    }
    return createDense(
      hiddenSize,
      intermediateSize,
      {
        gate: coded(expert.gate, intermediateSize, hiddenSize),
        up: coded(expert.up, intermediateSize, hiddenSize),
        down: coded(expert.down, hiddenSize, intermediateSize),
      },
      stored,
    )
  }
  try {
    return await Decoder.build(config, source, feedForwardOf)
  } catch (error) {
    sparse.dispose()
    throw error
  }
}
