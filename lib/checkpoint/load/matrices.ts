/** Reads and decodes the matrices of a plan in TypeScript, for the device `reference`. */

import { allocate } from '../../block/allocate.js'
import { bf16ToNumber, type DType, f16ToNumber, numberToBf16, numberToF16 } from '../../block/dtype.js'
import { MoeError } from '../../block/errors.js'
import type { WeightMatrix } from '../../block/weights.js'
import { Pacer } from '../pacer.js'
import { type LayerPlan, type MatrixItem, partsOf } from '../plan/layer-plan.js'
import { rowDecoder } from './decode.js'
import type { EncodedBuffers } from './encoded.js'
import { FileSet } from './files.js'

/** The matrices of one expert, or of the fused shared MLP: `[I, D]`, `[I, D]`, `[D, I]`. */
export interface LoadedExpert {
  gate?: WeightMatrix
  up: WeightMatrix
  down: WeightMatrix
}

/** All matrices of a layer but the router. Values are f32 that the asked dtype holds exactly. */
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
  signal?: AbortSignal
  /** Gets the bytes of each matrix when it has been decoded. */
  onBytes?: (bytes: number) => void
}

/**
 * Reads matrix by matrix, at most one encoded at any time, and rounds every value once to `dtype`. Gate and up of fused matrices are
 * views of one array.
 * @throws {@link MoeError} ERR_MOE_IO, ERR_MOE_INVALID_CHECKPOINT; or rejects with `signal.reason`
 */
export async function loadMatrices(
  plan: LayerPlan,
  dtype: DType,
  options: LoadMatricesOptions = {},
): Promise<LoadedMatrices> {
  const { signal, onBytes } = options
  signal?.throwIfAborted()
  const files = new FileSet(plan.files, signal)
  const pacer = new Pacer(signal)
  const round = rounder(dtype)
  const experts: Partial<LoadedExpert>[] = Array.from({ length: plan.config.numExperts }, () => ({}))
  const shared: Partial<LoadedExpert> = {}
  const latent: { down?: WeightMatrix; up?: WeightMatrix } = {}
  try {
    for (const item of plan.matrices) {
      const matrix = await readMatrix(item, files, pacer, round)
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

function complete(expert: Partial<LoadedExpert>): LoadedExpert {
  if (!expert.up || !expert.down) throw new MoeError('ERR_MOE_INTERNAL', 'A plan lacks a matrix')
  return expert as LoadedExpert
}

function rounder(dtype: DType): ((value: number) => number) | null {
  if (dtype === 'f32') return null
  return dtype === 'bf16'
    ? value => bf16ToNumber(numberToBf16(value))
    : value => f16ToNumber(numberToF16(value))
}

async function readMatrix(
  item: MatrixItem,
  files: FileSet,
  pacer: Pacer,
  round: ((value: number) => number) | null,
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
    if (round) for (let i = row * cols; i < (row + 1) * cols; i++) out[i] = round(out[i]!)
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
