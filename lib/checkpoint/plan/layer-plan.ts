/** What reading one layer of a checkpoint takes: made from headers alone, executed by the addon or by `checkpoint/load`. */

import type { ResolvedMoeConfig } from '../../block/config.js'
import type { DType } from '../../block/dtype.js'
import { type Codec, STORED_PARTS, type StoredPart } from '../../spec/formats.js'
import type { VectorName } from '../../spec/vectors.js'
import type { OpenFiles } from '../open-files.js'
import type { Segment } from '../segment.js'

/** How a stored matrix becomes numbers; the arithmetic is that of csrc/formats/decode.h. */
export interface MatrixEncoding {
  /** STORED_FORMATS of spec/formats.ts says what each is. */
  codec: Codec
  /** packedInt (not 3) and gptq. @defaultValue 4 */
  bits?: 2 | 3 | 4 | 8
  /** float: the file holds `[cols, rows]`; e2m1: `[cols / 2, rows]`; scales alike. */
  transposed?: boolean
  /** awq: elements and zero points are two's complement. */
  signed?: boolean
  /** gptq: 1 where the file stores zeros minus one. */
  zeroOffset?: 0 | 1
  globalScaleOp?: 'multiply' | 'divide'
  /** Rows and columns that share a scale. Absent: no scale. */
  block?: { rows: number; cols: number }
}

/** One matrix `[rows, cols]` = `[out_features, in_features]` of the layer and where its bytes are. */
export interface MatrixItem {
  /** `latent`: matrix 'down' is `[latentSize, H]`, 'up' is `[H, latentSize]`. */
  role: 'expert' | 'shared' | 'latent'
  /** 0 for shared and latent. */
  expert: number
  /** `gateUp`: both in the order of {@link LayerPlan.gateUpInterleaved}, rows = 2I. */
  matrix: 'gate' | 'up' | 'gateUp' | 'down'
  rows: number
  cols: number
  encoding: MatrixEncoding
  data: Segment
  scale?: Segment
  zeroPoint?: Segment
  groupIndex?: Segment
  /** The group indices give groups different sizes (`load/group-order.ts`). Absent: they do not, or nobody has looked. */
  unevenGroups?: boolean
  globalScale?: Segment
  /** `[cols]`: multiplies the columns, as it would the input. */
  columnScale?: Segment
}

/** The stored form of one matrix: how, and where its tensors are. */
export type EncodedSource = Omit<MatrixItem, 'role' | 'expert' | 'matrix' | 'rows' | 'cols'>

/** The tensors of a matrix that are there, in the order in which they are read. */
export function partsOf(source: Pick<EncodedSource, StoredPart>): [StoredPart, Segment][] {
  return STORED_PARTS.flatMap((part): [StoredPart, Segment][] => {
    const segment = source[part]
    return segment ? [[part, segment]] : []
  })
}

/** A small tensor that is read into f32 (or i32): `[…shape]`, a slice per source, concatenated in order. */
export interface VectorItem {
  target: VectorName
  /** 1: dense; 2 with `start`: every other element (interleaved biases). */
  step: 1 | 2
  start: 0 | 1
  /** Elements expected after stepping, over all sources. */
  length: number
  sources: Segment[]
  /** `difference`: the second half of what is read, less the first. `repeated`: its one element. `zeros`: no sources. */
  made?: 'difference' | 'repeated' | 'zeros'
  /** Behind what is read. */
  tail?: readonly number[]
  /** A matrix that is decoded as the experts' are; `sources` are its tensors. */
  encoded?: EncodedSource & { rows: number; cols: number }
}

/** Everything that is needed to read one layer. */
export interface LayerPlan {
  /** Decoder layer index. */
  layer: number
  config: ResolvedMoeConfig
  /** The checkpoint's own dtype (`torch_dtype`), what `dtype: 'auto'` means. */
  storedDtype: DType
  /** What a user should know about how the directory was read. */
  notices: readonly string[]
  /** Absolute paths. */
  files: string[]
  /** Where they are open, while the checkpoint is. Absent: whoever reads opens them. */
  openFiles?: OpenFiles
  /** Rows of every gateUp matrix: even gate, odd up (gpt-oss); else the first half is gate. */
  gateUpInterleaved: boolean
  matrices: MatrixItem[]
  vectors: VectorItem[]
  /** Bytes that will be read from the files. */
  totalBytes: number
}

const sumBytes = (segments: readonly Segment[]) => segments.reduce((sum, { bytes }) => sum + bytes, 0)

/** Bytes of the files that hold the matrices of a plan. */
export function matrixBytesOf({ matrices }: Pick<LayerPlan, 'matrices'>): number {
  return matrices.reduce((sum, item) => sum + sumBytes(partsOf(item).map(([, segment]) => segment)), 0)
}

/** Bytes of the files that hold its small tensors. */
export function vectorBytesOf({ vectors }: Pick<LayerPlan, 'vectors'>): number {
  return vectors.reduce((sum, { sources }) => sum + sumBytes(sources), 0)
}

/** Elements of each small tensor once it is read. */
export function vectorLengths({ vectors }: Pick<LayerPlan, 'vectors'>): Partial<Record<VectorName, number>> {
  return Object.fromEntries(
    vectors.map(({ target, length, made }) => [target, made === 'difference' ? length / 2 : length]),
  )
}
