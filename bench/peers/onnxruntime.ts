/** onnxruntime-node: a layer as a graph with its MoE node in f32, or its QMoE node over int8 or int4 codes of the same weights. */

import { existsSync } from 'node:fs'
import path from 'node:path'
import { inputOf, type Peer, type PeerLayer, timeCalls } from '../harness/peer.js'
import { bitsOf } from './layer-files.js'
import { type Initializer, type OnnxNode, writeOnnxModel } from './onnx-model.js'
import { peerModule } from './peer-packages.js'
import { BLOCK, writeBlocks, writeQuantized } from './quantize.js'

interface OnnxTensor {
  data: Float32Array
  dispose(): void
}

interface OnnxSession {
  run(feeds: { x: OnnxTensor }): Promise<{ y: OnnxTensor }>
  release(): Promise<void>
}

interface OnnxRuntime {
  InferenceSession: { create(file: string, options: object): Promise<OnnxSession> }
  Tensor: new (type: 'float32', data: Float32Array, dims: readonly number[]) => OnnxTensor
}

/** Repacks int4 blocks for faster kernels; off by default in 1.30, and for AVX-512 only. Read when a session is made. */
export const FAST_INT4 = 'ORT_USE_MLAS_Q4_GEMM_MOE'

const MOE_ATTRIBUTES = {
  activation_type: 'swiglu',
  // silu(gate) * up, gate and up rows alternating.
  swiglu_fusion: 1,
  activation_alpha: { float: 1 },
  activation_beta: { float: 0 },
  normalize_routing_weights: 1,
}

/** int4 'as it comes' leaves its switch off. */
export type OnnxKind = 'f32' | 'int8' | 'int4' | 'int4 as it comes'

export async function createOnnxRuntime(layer: PeerLayer, kind: OnnxKind): Promise<Peer> {
  const { config, directory, threads } = layer
  const { hiddenSize } = config
  const isPlain = kind === 'int4 as it comes'
  const dtype = isPlain ? 'int4' : kind
  const model = path.join(directory, `${dtype}.onnx`)
  // Once: another session may have the files mapped.
  if (!existsSync(model)) {
    const { nodes, initializers } = dtype === 'f32' ? floatGraph(layer) : quantizedGraph(layer, dtype)
    await writeOnnxModel(model, hiddenSize, nodes, initializers)
  }
  if (isPlain) delete process.env[FAST_INT4]
  else process.env[FAST_INT4] = '1'
  const ort = await peerModule<OnnxRuntime>('onnxruntime-node')
  const session = await ort.InferenceSession.create(model, {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
  })
  const run = async (hidden: Float32Array) => {
    const x = new ort.Tensor('float32', hidden, [hidden.length / hiddenSize, hiddenSize])
    return (await session.run({ x })).y
  }
  return {
    name: `onnxruntime-node ${dtype === 'f32' ? 'MoE' : isPlain ? 'QMoE as it comes' : 'QMoE'}`,
    dtype,
    times: (numTokens, first, calls) => timeCalls(layer, numTokens, first, calls, run),
    output: async numTokens => (await run(inputOf(layer, numTokens, 0))).data.slice(),
    close: () => session.release(),
  }
}

/** Router logits, then the node over them. The router is `[E, H]`: Gemm transposes, as for the shared experts. */
function routed({ config, directory }: PeerLayer, node: Omit<OnnxNode, 'output'>, output: string) {
  const { hiddenSize, numExperts, topK } = config
  const router: Initializer = {
    name: 'router',
    dims: [numExperts, hiddenSize],
    type: 'float32',
    file: path.join(directory, 'router.f32'),
  }
  const nodes: OnnxNode[] = [
    { opType: 'Gemm', inputs: ['x', 'router'], output: 'logits', attributes: { transB: 1 } },
    {
      ...node,
      domain: 'com.microsoft',
      output,
      attributes: { ...node.attributes, ...MOE_ATTRIBUTES, k: topK },
    },
  ]
  return { router, nodes }
}

/** Beside the routed experts where there are shared ones: down(silu(gate x) · up x), added to them. */
function sharedNodes(
  linear: (name: 'gate' | 'up' | 'down', input: string, output: string) => OnnxNode,
): OnnxNode[] {
  return [
    linear('gate', 'x', 'gated'),
    { opType: 'Sigmoid', inputs: ['gated'], output: 'sigmoid' },
    { opType: 'Mul', inputs: ['gated', 'sigmoid'], output: 'silu' },
    linear('up', 'x', 'upped'),
    { opType: 'Mul', inputs: ['silu', 'upped'], output: 'activated' },
    linear('down', 'activated', 'shared'),
    { opType: 'Add', inputs: ['routed', 'shared'], output: 'y' },
  ]
}

/** Rows and columns of the shared MLP's matrices. */
function sharedMatrices({ config, weights }: PeerLayer) {
  const { hiddenSize } = config
  const width = (weights.shared!.up as Uint16Array).length / hiddenSize
  return [
    { name: 'gate', rows: width, cols: hiddenSize },
    { name: 'up', rows: width, cols: hiddenSize },
    { name: 'down', rows: hiddenSize, cols: width },
  ] as const
}

function floatGraph(layer: PeerLayer): { nodes: OnnxNode[]; initializers: Initializer[] } {
  const { config, directory, weights } = layer
  const { hiddenSize, intermediateSize, numExperts } = config
  const file = (name: string) => path.join(directory, `${name}.f32`)
  const hasShared = weights.shared !== undefined
  const { router, nodes } = routed(
    layer,
    { opType: 'MoE', inputs: ['x', 'logits', 'fc1', '', 'fc2'] },
    hasShared ? 'routed' : 'y',
  )
  const initializers: Initializer[] = [
    router,
    { name: 'fc1', dims: [numExperts, 2 * intermediateSize, hiddenSize], type: 'float32', file: file('fc1') },
    { name: 'fc2', dims: [numExperts, hiddenSize, intermediateSize], type: 'float32', file: file('fc2') },
  ]
  if (!hasShared) return { nodes, initializers }
  const shared = sharedMatrices(layer).map(({ name, rows, cols }, index) => ({
    ...{ name, dims: [rows, cols], type: 'float32' as const, file: file('shared') },
    offset: index * 4 * rows * cols,
  }))
  nodes.push(
    ...sharedNodes((name, input, output) => ({
      ...{ opType: 'Gemm', inputs: [input, name], output },
      attributes: { transB: 1 },
    })),
  )
  return { nodes, initializers: [...initializers, ...shared] }
}

/** The shared experts in blocks of 32 columns whatever the routed ones have: MatMulNBits knows no scale per row. */
function quantizedGraph(
  layer: PeerLayer,
  kind: 'int8' | 'int4',
): { nodes: OnnxNode[]; initializers: Initializer[] } {
  const inputs = ['x', 'logits', 'fc1', 'fc1_scales', '', 'fc2', 'fc2_scales']
  const bits = kind === 'int4' ? 4 : 8
  const attributes: Record<string, number> =
    kind === 'int4' ? { expert_weight_bits: bits, block_size: BLOCK } : { expert_weight_bits: bits }
  const { shared } = layer.weights
  const { router, nodes } = routed(layer, { opType: 'QMoE', inputs, attributes }, shared ? 'routed' : 'y')
  const initializers = [router, ...writeQuantized(layer, kind)]
  if (!shared) return { nodes, initializers }
  const matrices = sharedMatrices(layer)
  nodes.push(
    ...sharedNodes((name, input, output) => {
      const { rows, cols } = matrices.find(matrix => matrix.name === name)!
      return {
        ...{
          opType: 'MatMulNBits',
          domain: 'com.microsoft',
          inputs: [input, name, `${name}_scales`],
          output,
        },
        // The last one: activations may be rounded to int8, the fastest that it offers.
        attributes: { K: cols, N: rows, bits, block_size: BLOCK, accuracy_level: 4 },
      }
    }),
  )
  const of = matrices.flatMap(matrix =>
    writeBlocks(layer.directory, matrix, bitsOf(shared[matrix.name]), bits),
  )
  return { nodes, initializers: [...initializers, ...of] }
}
