/**
 * The reference as a device computes that rounds rows to 16 bits before it multiplies them: in double precision, but for that. How far it
 * lies from the plain reference is what rounding costs in this layer on this input, however much of the sum cancels; so the error of such
 * a device has a bound of its own in every case.
 */

import type { DType } from '../../lib/block/dtype.js'
import { loadMatrices } from '../../lib/checkpoint/load/matrices.js'
import { readVectors } from '../../lib/checkpoint/load/vectors.js'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import { assembleWeights } from '../../lib/devices/reference/runtime.js'
import { devices } from '../../lib/index.js'
import type { ExpertTensors } from '../../lib/reference/expert.js'
import { runLayer } from '../../lib/reference/layer.js'
import { drain, type Matrix } from '../../lib/reference/matrix.js'
import { type LayerTensors, layerTensors } from '../../lib/reference/tensors.js'

/** Bits of the significand, and the exponent of the least spacing. */
const FORMATS = { bf16: { bits: 8, least: -133 }, f16: { bits: 11, least: -24 } }

/** Where a value lies so close to the middle of two neighbours that a sum in f32 may fall on either side: to even, or all one way. */
export type Ties = 'even' | 'up' | 'down'

/** How far a device's row, summed in f32, may be from the exact one, beside the row's largest element. */
const ROW_ERROR = 2e-6

/** Rounds a row to `dtype`. */
export function roundRow(row: Float64Array, dtype: 'bf16' | 'f16', ties: Ties): Float64Array {
  const { bits, least } = FORMATS[dtype]
  const largest = row.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return row.map(value => {
    if (value === 0 || !Number.isFinite(value)) return value
    const spacing = 2 ** Math.max(Math.floor(Math.log2(Math.abs(value))) - bits + 1, least)
    const below = Math.floor(value / spacing)
    const past = value / spacing - below - 0.5
    if (Math.abs(past) * spacing > ROW_ERROR * largest) return (past > 0 ? below + 1 : below) * spacing
    const isUp = ties === 'even' ? past > 0 || (past === 0 && below % 2 !== 0) : ties === 'up'
    return (isUp ? below + 1 : below) * spacing
  })
}

/** The dtype to which a device rounds rows of a layer; null where it does not. */
export function roundedDtype(device: string, dtype: DType): 'bf16' | 'f16' | null {
  if (dtype === 'f32') return null
  if (device.startsWith('cuda')) return dtype
  const architecture = devices().find(({ id }) => id === device)?.architecture
  return dtype === 'bf16' && architecture === 'avx512bf16' ? dtype : null
}

/** A replayed forward of T rows: `[T, H]` out of `[T, H]`, and the routing that it replays. */
export interface ReplayedRows {
  hidden: Float32Array
  topkIds: Int32Array
  topkWeights: Float32Array
}

/** The layers of a checkpoint that round rows to `rowDtype`, one for each treatment of ties. */
export async function loadRounded(
  directory: string,
  layer: number,
  dtype: DType,
  rowDtype: 'bf16' | 'f16',
): Promise<Record<Ties, (rows: ReplayedRows) => Float64Array>> {
  const plan = await planLayer(directory, { layer })
  const vectors = await readVectors(plan, {})
  const matrices = await loadMatrices(plan, dtype, {})
  const tensors = layerTensors(plan.config, assembleWeights(plan.config, dtype, vectors, matrices))
  const with_ = (ties: Ties) => {
    const round = (row: Float64Array) => roundRow(row, rowDtype, ties)
    const rounding = roundingOf(tensors, round)
    // Where the weight multiplies the input, that is a row already rounded, and is rounded again.
    const isScaled = plan.config.weightOn === 'input'
    return ({ hidden, topkIds, topkWeights }: ReplayedRows) => {
      const { hiddenSize } = plan.config
      const output = new Float64Array(hidden.length)
      drain(
        runLayer(plan.config, rounding, {
          numTokens: hidden.length / hiddenSize,
          replay: true,
          topkIds,
          topkWeights: Float64Array.from(topkWeights),
          nonFinite: new Uint8Array(hidden.length / hiddenSize),
          ...{ topK: plan.config.topK, topP: 1, tokenIds: null, sequenceLengths: null },
          readHidden: (token, row) => {
            row.set(hidden.subarray(token * hiddenSize, (token + 1) * hiddenSize))
            if (isScaled) row.set(round(row))
          },
          readRouterInput: null,
          writeOutput: (token, row) => {
            output.set(row, token * hiddenSize)
            return true
          },
        }),
      )
      return output
    }
  }
  return { even: with_('even'), up: with_('up'), down: with_('down') }
}

/** Tensors whose expert and latent matrices round their rows. Router and shared gate multiply rows as they are. */
function roundingOf(tensors: LayerTensors, round: NonNullable<Matrix['roundRow']>): LayerTensors {
  const matrix = <M extends Matrix | null>(plain: M) =>
    plain && { ...plain, data: plain.data, roundRow: round }
  const expert = (plain: ExpertTensors): ExpertTensors => ({
    ...plain,
    gate: matrix(plain.gate),
    up: matrix(plain.up),
    down: matrix(plain.down),
  })
  return {
    ...tensors,
    experts: tensors.experts.map(expert),
    shared: tensors.shared && expert(tensors.shared),
    latentDown: matrix(tensors.latentDown),
    latentUp: matrix(tensors.latentUp),
  }
}
