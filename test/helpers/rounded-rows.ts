/**
 * The reference as a device computes that rounds rows to 16 bits before it multiplies them: in double precision, but for that. How far it
 * lies from the plain reference is what rounding costs in this layer on this input, however much of the sum cancels; so the error of such
 * a device has a bound of its own in every case.
 */

import type { ResolvedMoeConfig } from '../../lib/block/config.js'
import type { DType } from '../../lib/block/dtype.js'
import { loadMatrices } from '../../lib/checkpoint/load/matrices.js'
import { readVectors } from '../../lib/checkpoint/load/vectors.js'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import { assembleWeights } from '../../lib/devices/reference/assemble.js'
import { devices } from '../../lib/index.js'
import type { ExpertTensors } from '../../lib/reference/expert.js'
import { runLayer } from '../../lib/reference/layer.js'
import { drain, type Matrix } from '../../lib/reference/matrix.js'
import { type LayerTensors, layerTensors } from '../../lib/reference/tensors.js'

/** Bits of the significand, and the exponent of the least spacing. */
const FORMATS = { bf16: { bits: 8, least: -133 }, f16: { bits: 11, least: -24 } }

/** How far a device's row, summed in f32, may be from the exact one, beside the row's largest element. */
const ROW_ERROR = 2e-6

/**
 * Values met so close to the middle of two neighbours that a sum in f32 may fall on either side: how many so far, and the number of the one
 * that goes the other way.
 */
interface Ties {
  met: number
  readonly flipped: number
}

/** Rounds a row to `dtype`, to nearest even. */
function roundRow(row: Float64Array, dtype: 'bf16' | 'f16', ties: Ties): Float64Array {
  const { bits, least } = FORMATS[dtype]
  const largest = row.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return row.map(value => {
    if (value === 0 || !Number.isFinite(value)) return value
    const spacing = 2 ** Math.max(Math.floor(Math.log2(Math.abs(value))) - bits + 1, least)
    const below = Math.floor(value / spacing)
    const past = value / spacing - below - 0.5
    let isUp = past > 0 || (past === 0 && below % 2 !== 0)
    if (Math.abs(past) * spacing <= ROW_ERROR * largest && ties.met++ === ties.flipped) isUp = !isUp
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

/**
 * What a checkpoint's layer computes whose rows are rounded to `rowDtype`.
 *
 * @returns of a replayed forward: the output, and those that differ from it by one value each that may as well be rounded the other way
 */
export async function loadRounded(
  directory: string,
  from: { layer: number; module?: string },
  dtype: DType,
  rowDtype: 'bf16' | 'f16',
): Promise<(rows: ReplayedRows) => { output: Float64Array; others: Float64Array[] }> {
  const plan = await planLayer(directory, from)
  const vectors = await readVectors(plan, {})
  const matrices = await loadMatrices(plan, dtype, {})
  const tensors = layerTensors(plan.config, assembleWeights(plan.config, dtype, vectors, matrices))
  return rows => {
    const ties: Ties = { met: 0, flipped: -1 }
    const output = runRounded(plan.config, tensors, rows, row => roundRow(row, rowDtype, ties))
    const others = Array.from({ length: ties.met }, (_, flipped) => {
      const one: Ties = { met: 0, flipped }
      return runRounded(plan.config, tensors, rows, row => roundRow(row, rowDtype, one))
    })
    return { output, others }
  }
}

function runRounded(
  config: ResolvedMoeConfig,
  tensors: LayerTensors,
  { hidden, topkIds, topkWeights }: ReplayedRows,
  round: NonNullable<Matrix['roundRow']>,
): Float64Array {
  const { hiddenSize, topK } = config
  const numTokens = hidden.length / hiddenSize
  const output = new Float64Array(hidden.length)
  drain(
    runLayer(config, roundingOf(tensors, round), {
      numTokens,
      replay: true,
      topkIds,
      topkWeights: Float64Array.from(topkWeights),
      nonFinite: new Uint8Array(numTokens),
      ...{ topK, topP: 1, tokenIds: null, sequenceLengths: null },
      readHidden: (token, row) => {
        row.set(hidden.subarray(token * hiddenSize, (token + 1) * hiddenSize))
        // Where the weight multiplies the input, that is a row already rounded, and is rounded again.
        if (config.weightOn === 'input') row.set(round(row))
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
