/** How a layer's matrices lie in memory, whatever arithmetic reads them, and the bytes that follow. */

import { MATRIX_CODE_BITS, type MatrixCode } from '../spec/enums.js'
import { allocate } from './allocate.js'
import type { ResolvedMoeConfig } from './config.js'
import type { DType } from './dtype.js'

/** How a layer is asked to hold its matrices. */
export const WEIGHTS_OPTIONS = ['auto', 'stored', 'expand', 'int8', 'int4'] as const
export type WeightsOption = (typeof WEIGHTS_OPTIONS)[number]

/** What one matrix was, and is. */
export interface MatrixWeightFormat {
  /** How its source stores it: 'bf16', 'fp8 128x128', 'mxfp4', 'awq int4 g128', 'q4_K' … */
  readonly stored: string
  /** What is held for each weight: 'bf16', 'u4' (an index of four bits), 'i8', 'e4m3' … */
  readonly held: MatrixCode
  /** Bits of memory per weight: codes, scales and offsets, and what a device adds to make its panels whole. */
  readonly bitsPerWeight: number
}

/** One matrix of every expert: one entry where they are alike, else one per expert. */
export type ExpertsWeightFormat = MatrixWeightFormat | readonly MatrixWeightFormat[]

/** The matrices of one MLP; experts without a gate have none. */
export interface MlpWeightFormat<Format> {
  readonly gate?: Format
  readonly up: Format
  readonly down: Format
}

/** How a layer holds its matrices. */
export interface LayerWeightFormat extends MlpWeightFormat<ExpertsWeightFormat> {
  readonly shared?: MlpWeightFormat<MatrixWeightFormat>
  readonly latent?: { readonly down: MatrixWeightFormat; readonly up: MatrixWeightFormat }
}

/** All matrices alike. */
export function uniformFormat(
  { gated, numSharedExperts, latentSize }: ResolvedMoeConfig,
  format: MatrixWeightFormat,
): LayerWeightFormat {
  const mlp = { ...(gated ? { gate: format } : {}), up: format, down: format }
  return Object.freeze({
    ...mlp,
    ...(numSharedExperts > 0 ? { shared: mlp } : {}),
    ...(latentSize > 0 ? { latent: { down: format, up: format } } : {}),
  })
}

/** Values of a dtype, held as they are. */
export function dtypeFormat(dtype: DType): MatrixWeightFormat {
  return { stored: dtype, held: dtype, bitsPerWeight: MATRIX_CODE_BITS[dtype] }
}

/** The matrix of one expert. */
export function formatOfExpert(format: ExpertsWeightFormat, expert: number): MatrixWeightFormat {
  return Array.isArray(format) ? format[expert]! : (format as MatrixWeightFormat)
}

/** Bytes of a matrix. */
export function matrixBytes(format: MatrixWeightFormat, rows: number, cols: number): number {
  return Math.round((rows * cols * format.bitsPerWeight) / 8)
}

/** Bytes of a layer's matrices. */
export interface MatrixBytes {
  /** Of gate and up of one expert, and of its down: the mean where experts differ. */
  gateUp: number
  down: number
  /** Of each expert; `null`: all have the mean. */
  experts: Float64Array | null
  shared: number
  latent: number
}

/** Counts them. */
export function countMatrixBytes(config: ResolvedMoeConfig, format: LayerWeightFormat): MatrixBytes {
  const { hiddenSize, intermediateSize, sharedIntermediateSize, latentSize, numExperts } = config
  const width = latentSize || hiddenSize
  const upBytes = (mlp: MlpWeightFormat<MatrixWeightFormat>, rows: number, cols: number) =>
    (mlp.gate ? matrixBytes(mlp.gate, rows, cols) : 0) + matrixBytes(mlp.up, rows, cols)
  const expert = (e: number): MlpWeightFormat<MatrixWeightFormat> => ({
    ...(format.gate ? { gate: formatOfExpert(format.gate, e) } : {}),
    up: formatOfExpert(format.up, e),
    down: formatOfExpert(format.down, e),
  })
  const isUniform = ![format.gate, format.up, format.down].some(Array.isArray)
  const count = isUniform ? Math.min(1, numExperts) : numExperts
  const experts = allocate(Float64Array, isUniform ? 0 : numExperts)
  let [gateUp, down] = [0, 0]
  for (let e = 0; e < count; e++) {
    const ofUp = upBytes(expert(e), intermediateSize, width)
    const ofDown = matrixBytes(expert(e).down, width, intermediateSize)
    gateUp += ofUp / count
    down += ofDown / count
    if (!isUniform) experts[e] = ofUp + ofDown
  }
  const { shared, latent } = format
  return {
    gateUp,
    down,
    experts: isUniform ? null : experts,
    shared: shared
      ? upBytes(shared, sharedIntermediateSize, hiddenSize) +
        matrixBytes(shared.down, hiddenSize, sharedIntermediateSize)
      : 0,
    latent: latent
      ? matrixBytes(latent.down, latentSize, hiddenSize) + matrixBytes(latent.up, hiddenSize, latentSize)
      : 0,
  }
}
