/** Reads and decodes the matrices of a plan in TypeScript, for the device `reference`. */

import { allocate } from '../../block/allocate.js'
import { bf16ToNumber, type DType, f16ToNumber, numberToBf16, numberToF16 } from '../../block/dtype.js'
import { MoeError } from '../../block/errors.js'
import { QUANTIZED_BLOCK, type QuantizedBits, roundThroughCodes } from '../../block/quantize.js'
import {
  dtypeFormat,
  type LayerWeightFormat,
  type MatrixWeightFormat,
  type WeightsOption,
} from '../../block/weight-format.js'
import type { WeightMatrix } from '../../block/weights.js'
import { Pacer } from '../pacer.js'
import { assembleFormats } from '../plan/layer-formats.js'
import { type LayerPlan, type MatrixItem, partsOf } from '../plan/layer-plan.js'
import { storedName } from '../plan/stored-name.js'
import { rowDecoder } from './decode.js'
import type { EncodedBuffers } from './encoded.js'
import { FileSet } from './files.js'

/** The matrices of one expert, or of the fused shared MLP: `[I, D]`, `[I, D]`, `[D, I]`. */
export interface LoadedExpert {
  gate?: WeightMatrix
  up: WeightMatrix
  down: WeightMatrix
}

/** All matrices of a layer but the router, as f32. */
export interface LoadedMatrices {
  /** One entry per expert. */
  experts: LoadedExpert[]
  shared?: LoadedExpert
  /** `[latentSize, H]` */
  latentDown?: WeightMatrix
  /** `[H, latentSize]` */
  latentUp?: WeightMatrix
}

/** Options of {@link loadMatrices}. */
export interface LoadMatricesOptions {
  /** How the matrices are held. @defaultValue 'expand' */
  weights?: WeightsOption
  signal?: AbortSignal
  /** Gets the bytes of each matrix when it has been decoded. */
  onBytes?: (bytes: number) => void
}

/**
 * Reads matrix by matrix, at most one encoded at any time. Floats, and with 'expand' all values, are rounded once to `dtype`; 'int8' and
 * 'int4' become the values of their codes; what is stored in another form is decoded and not rounded further. Gate and up of fused
 * matrices are views of one array.
 * @throws {@link MoeError} ERR_MOE_IO, ERR_MOE_INVALID_CHECKPOINT; or rejects with `signal.reason`
 */
export async function loadMatrices(
  plan: LayerPlan,
  dtype: DType,
  options: LoadMatricesOptions = {},
): Promise<LoadedMatrices> {
  const { weights = 'expand', signal, onBytes } = options
  signal?.throwIfAborted()
  const files = new FileSet(plan, signal)
  const pacer = new Pacer(signal)
  const experts: Partial<LoadedExpert>[] = Array.from({ length: plan.config.numExperts }, () => ({}))
  const shared: Partial<LoadedExpert> = {}
  const latent: { down?: WeightMatrix; up?: WeightMatrix } = {}
  try {
    for (const item of plan.matrices) {
      const matrix = await readMatrix(item, files, pacer, finisher(item, dtype, weights))
      if (item.role === 'latent') latent[item.matrix as 'down' | 'up'] = matrix
      else
        place(item.role === 'shared' ? shared : experts[item.expert]!, item, matrix, plan.gateUpInterleaved)
      onBytes?.(partsOf(item).reduce((sum, [, segment]) => sum + segment.bytes, 0))
    }
  } finally {
    await files.close()
  }
  return {
    experts: experts.map(complete),
    ...(plan.config.numSharedExperts > 0 ? { shared: complete(shared) } : {}),
    ...(latent.down ? { latentDown: latent.down } : {}),
    ...(latent.up ? { latentUp: latent.up } : {}),
  }
}

/** How {@link loadMatrices} holds a layer. */
export function decodedFormats(plan: LayerPlan, dtype: DType, weights: WeightsOption): LayerWeightFormat {
  return assembleFormats(plan.config, plan.matrices, dtypeFormat(dtype), index =>
    decodedFormat(plan.matrices[index]!, dtype, weights),
  )
}

function complete(expert: Partial<LoadedExpert>): LoadedExpert {
  if (!expert.up || !expert.down) throw new MoeError('ERR_MOE_INTERNAL', 'A plan lacks a matrix')
  return expert as LoadedExpert
}

/** What is done to each decoded row. */
type Finish = ((values: Float32Array, offset: number, cols: number) => void) | null

function rounder(dtype: DType): Finish {
  if (dtype === 'f32') return null
  const round =
    dtype === 'bf16'
      ? (value: number) => bf16ToNumber(numberToBf16(value))
      : (value: number) => f16ToNumber(numberToF16(value))
  return (values, offset, cols) => {
    for (let i = offset; i < offset + cols; i++) values[i] = round(values[i]!)
  }
}

/** The width to which a matrix is quantised; `null` where it is not, or where it is stored so already. */
function quantizedBits(
  { encoding, data, ...item }: MatrixItem,
  weights: WeightsOption,
): QuantizedBits | null {
  if (weights !== 'int8' && weights !== 'int4') return null
  const bits = weights === 'int8' ? 8 : 4
  const { codec, block } = encoding
  const isOurBlock = block?.rows === 1 && block.cols === QUANTIZED_BLOCK && item.scale?.type === 'F16'
  const isPlain = !item.zeroPoint && !item.groupIndex
  const isOurCodec = bits === 8 ? codec === 'int8' : codec === 'packedInt' && encoding.bits === 4
  const isStored = codec === 'ggml' ? data.type === `Q${bits}_0` : isOurCodec && isOurBlock && isPlain
  return isStored ? null : bits
}

const isFloatItem = ({ encoding, data }: MatrixItem) =>
  encoding.codec === 'float' && !encoding.block && data.type !== 'F8_E4M3'

/** Values that are rounded to the layer's dtype: all with 'expand', floats unless they are to stay as they are stored. */
const isRounded = (item: MatrixItem, weights: WeightsOption) =>
  weights === 'expand' || (weights === 'auto' && isFloatItem(item))

function finisher(item: MatrixItem, dtype: DType, weights: WeightsOption): Finish {
  const bits = quantizedBits(item, weights)
  if (bits) return (values, offset, cols) => roundThroughCodes(bits, values, offset, cols)
  return isRounded(item, weights) ? rounder(dtype) : null
}

function decodedFormat(item: MatrixItem, dtype: DType, weights: WeightsOption): MatrixWeightFormat {
  const held = dtypeFormat(isRounded(item, weights) ? dtype : 'f32')
  return Object.freeze({ ...held, stored: storedName(item, item.rows, item.cols) })
}

async function readMatrix(
  item: MatrixItem,
  files: FileSet,
  pacer: Pacer,
  finish: Finish,
): Promise<Float32Array> {
  const { rows, cols } = item
  const buffers: Partial<EncodedBuffers> = {}
  for (const [part, segment] of partsOf(item)) {
    buffers[part] = { bytes: await files.read(segment), type: segment.type }
  }
  const decode = rowDecoder(item.encoding, buffers as EncodedBuffers, rows, cols)
  const out = allocate(Float32Array, rows * cols)
  for (let row = 0; row < rows; row++) {
    decode(row, out, row * cols)
    finish?.(out, row * cols, cols)
    if (pacer.due) await pacer.turn()
  }
  return out
}

/** Rows of a fused matrix as two views. */
function place(
  expert: Partial<LoadedExpert>,
  item: MatrixItem,
  data: Float32Array,
  interleaved: boolean,
): void {
  if (item.matrix !== 'gateUp') {
    expert[item.matrix] = data
    return
  }
  const { rows, cols } = item
  const strides = [interleaved ? 2 * cols : cols, 1] as const
  expert.gate = { data, strides }
  expert.up = { data, offset: interleaved ? cols : (rows / 2) * cols, strides }
}
