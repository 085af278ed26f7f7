/**
 * Measures the five stages one by one, over tensors, as a server that owns part of the layer calls them: gate, select_experts, dispatch,
 * gate_up and down (expert matmuls), combine. Their weights are rows as stored; a layer packs its own.
 */

import { Random } from '../../test/cases/random.js'
import { randomHidden } from '../harness/inputs.js'
import { limitsFor, type MachineLimits } from '../harness/machine.js'
import { availableBytes } from '../harness/memory.js'
import { type MoeConfig, stages, Tensor } from '../harness/package.js'
import type { Row } from '../harness/results.js'
import { type CallWork, figuresOf, meanWork } from '../harness/roofline.js'
import { arithmeticOf } from '../harness/weight-kinds.js'
import { makeBenchWeights } from '../harness/weights.js'
import type { Group } from './cell-groups.js'
import { type CellOptions, timeCell } from './time-cell.js'

export interface StageCellsOptions extends CellOptions {
  cacheBytes: number
  machine: MachineLimits | null
  onCell(label: string): void
  onRow(row: Row): void
  /** Median of the whole layer on the same tokens, where it was measured. */
  layerMs(numTokens: number): number | undefined
}

/** Typed arrays end at 2³² − 1 bytes in Node 20. */
const MAX_TENSOR_BYTES = 2 ** 32 - 1
/** Matrices of fewer caches' size than this are partly in them. */
const CACHED_TIMES = 8

/** A reason instead of rows where the weights do not fit into tensors or memory. */
export async function measureStages(
  group: Group,
  options: StageCellsOptions,
): Promise<{ reason: string } | null> {
  const { shape, dtype, device, threads } = group
  const { hiddenSize, intermediateSize, numExperts } = shape.config
  const elementBytes = dtype === 'f32' ? 4 : 2
  const gateUpBytes = 2 * numExperts * intermediateSize * hiddenSize * elementBytes
  if (gateUpBytes > MAX_TENSOR_BYTES) return { reason: 'its gate and up matrices exceed one typed array' }
  if (2 * 1.5 * gateUpBytes > 0.9 * availableBytes()) return { reason: 'needs more memory' }
  const tensors = makeTensors(group)
  const limits = options.machine && limitsFor(options.machine, dtype, threads)
  for (const numTokens of group.stageTokens) {
    // Several inputs in turn, with experts of their own: one call's weights should not be the next one's.
    const inputs = Array.from({ length: Math.max(2, Math.ceil(32 / numTokens)) }, (_, seed) =>
      stagesOf(shape.config, tensors, numTokens, seed),
    )
    for (const [index, { what }] of inputs[0]!.entries()) {
      options.onCell(`${shape.name} ${device} ${dtype} ${what} T=${numTokens}`)
      let turn = 0
      const call = () => inputs[turn++ % inputs.length]![index]!.call()
      const timing = await timeCell(call, { ...options, timeMs: options.timeMs / 2 })
      const work = meanWork(inputs.map(stages => stages[index]!.work))
      const figures = figuresOf(timing, numTokens, work, limits)
      // A matrix that caches hold is not read from memory: its roof is not the memory's.
      const isCached = gateUpBytes < CACHED_TIMES * options.cacheBytes && figures.bound === 'memory'
      const layerMs = options.layerMs(numTokens)
      options.onRow({
        ...{ what, shape: shape.name, device, dtype, load: 'gate', numTokens, threads },
        ...figures,
        ...(isCached && { rooflineShare: null, bound: null }),
        ...(layerMs !== undefined && { shareOfLayer: timing.medianMs / layerMs }),
      })
    }
  }
  return null
}

interface LayerTensors {
  router: Tensor
  gateUp: Tensor
  down: Tensor
}

/** The experts' matrices side by side: `[E, 2I, H]` and `[E, H, I]`. */
function makeTensors({ shape, dtype }: Group): LayerTensors {
  const { hiddenSize, intermediateSize, numExperts } = shape.config
  const { experts, router } = makeBenchWeights(shape, dtype).weights
  const matrixLength = intermediateSize * hiddenSize
  const arithmetic = arithmeticOf(dtype)
  const make = (length: number) => (dtype === 'f32' ? new Float32Array(length) : new Uint16Array(length))
  const gateUp = make(2 * numExperts * matrixLength)
  const down = make(numExperts * matrixLength)
  for (const [e, expert] of experts.entries()) {
    gateUp.set(expert.gate as Float32Array, 2 * e * matrixLength)
    gateUp.set(expert.up as Float32Array, (2 * e + 1) * matrixLength)
    down.set(expert.down as Float32Array, e * matrixLength)
  }
  return {
    router: Tensor.from(router!.weight as Float32Array, [numExperts, hiddenSize]),
    gateUp: Tensor.from(gateUp, [numExperts, 2 * intermediateSize, hiddenSize], { dtype: arithmetic }),
    down: Tensor.from(down, [numExperts, hiddenSize, intermediateSize], { dtype: arithmetic }),
  }
}

interface Stage {
  what: string
  call(): unknown
  work: CallWork
}

function stagesOf(
  config: MoeConfig,
  { router, gateUp, down }: LayerTensors,
  numTokens: number,
  seed: number,
): Stage[] {
  const { hiddenSize, intermediateSize, numExperts, topK } = config
  const { swigluLimit, swigluAlpha, swigluUpOffset } = config
  const random = new Random(1000 * numTokens + seed)
  const hidden = Tensor.from(randomHidden(random, numTokens, hiddenSize), [numTokens, hiddenSize])
  const gate = () => stages.gate(hidden, router)
  const logits = gate()
  const { scoringFunc, normTopkProb } = config as { scoringFunc: 'softmax'; normTopkProb: true }
  const select = () => stages.selectExperts(logits, { topK, scoringFunc, normTopkProb })
  const { topkIds, topkWeights } = select()
  const dispatch = () => stages.dispatch(topkIds, numExperts)
  const dispatched = dispatch()
  const gateUpStage = () =>
    stages.expertMatmul(hidden, gateUp, dispatched, {
      ...{ gather: true, topK, gated: true, activation: 'silu' },
      ...{ swigluLimit, swigluAlpha, swigluUpOffset },
    })
  const activated = gateUpStage()
  const downStage = () => stages.expertMatmul(activated, down, dispatched)
  const expertOutput = downStage()
  const slots = numTokens * topK
  const distinctExperts = new Set(topkIds.toHost()).size
  const elementBytes = gateUp.dtype === 'f32' ? 4 : 2
  const matrixBytes = distinctExperts * intermediateSize * hiddenSize * elementBytes
  const matrixFlops = 2 * slots * intermediateSize * hiddenSize
  const none = { flops: 0, weightBytes: 0, distinctExperts }
  const routerWork = {
    flops: 2 * numTokens * numExperts * hiddenSize,
    weightBytes: 4 * numExperts * hiddenSize,
    distinctExperts,
  }
  return [
    { what: 'gate', call: gate, work: routerWork },
    { what: 'select_experts', call: select, work: none },
    { what: 'dispatch', call: dispatch, work: none },
    {
      what: 'gate_up',
      call: gateUpStage,
      work: { flops: 2 * matrixFlops, weightBytes: 2 * matrixBytes, distinctExperts },
    },
    {
      what: 'down',
      call: downStage,
      work: { flops: matrixFlops, weightBytes: matrixBytes, distinctExperts },
    },
    {
      what: 'combine',
      call: () => stages.combine(expertOutput, dispatched, topkWeights),
      work: { ...none, flops: 2 * slots * hiddenSize },
    },
  ]
}
