/**
 * The form of a trace: a directory of safetensors files, `segment-00000.safetensors` and on, each with whole calls.
 *
 * Metadata of each segment: `format`, `recording` (the same in all segments of one), `segment` (its number), `layers` (JSON, a list of
 * {@link TraceLayer}). Tensors:
 * - `calls`, I64 `[C, 4]`: layer number, first row, rows, microseconds from the begin of the recording to that of the call. First rows
 *   count from 0 in every segment and layer, without holes.
 * - `layers.N.topk_ids`, `[rows, topK]`: U8 where the layer has fewer than 255 experts, else U16. All bits set: no expert ran in that place.
 * - `layers.N.topk_weights`, F16 `[rows, topK]`: in all layers, or in none.
 */

export const TRACE_FORMAT = 'sparse-experts-trace/1'

/** What a trace says of a layer. */
export interface TraceLayer {
  /** Number of the decoder layer. */
  readonly layer: number
  readonly numExperts: number
  readonly topK: number
  /** Memory of one expert as the recorded layer held it. */
  readonly expertBytes: number
  /** Arithmetic of the expert matmuls. */
  readonly dtype: string
  /** Equal where the layer's config is. */
  readonly configHash: string
}

/** Columns of `calls`. */
export const CALL_COLUMNS = 4

/** Ids are bytes below this number of experts, because the byte 255 says that no expert ran. */
const MOST_BYTE_EXPERTS = 255

/** How ids of a layer are stored: the tensor's dtype, its array, and what stands where no expert ran. */
export function idStorage(numExperts: number) {
  return numExperts < MOST_BYTE_EXPERTS
    ? ({ dtype: 'U8', array: Uint8Array, none: 0xff } as const)
    : ({ dtype: 'U16', array: Uint16Array, none: 0xffff } as const)
}

/** Most experts of a layer that a trace can name. */
export const MOST_EXPERTS = 0xffff

export const segmentName = (segment: number): string =>
  `segment-${String(segment).padStart(5, '0')}.safetensors`

/** The number of a segment's file; undefined for other names. */
export function segmentNumber(file: string): number | undefined {
  const digits = /^segment-(\d{5,9})\.safetensors$/.exec(file)?.[1]
  const number = digits === undefined ? undefined : Number(digits)
  return number !== undefined && segmentName(number) === file ? number : undefined
}

export const idsName = (layer: number): string => `layers.${layer}.topk_ids`
export const weightsName = (layer: number): string => `layers.${layer}.topk_weights`
