/** What the layers of a benchmark hold: values of a dtype, or codes in a form that published checkpoints have. */

import { GGUF_TYPES } from '../../lib/spec/formats.js'
import { DTYPES } from './command-line.js'
import type { DType, MoeConfig } from './package.js'
import { sharedSize } from './shapes.js'

/** `fp8` is e4m3 with a scale per 128 rows and 128 columns, as DeepSeek publishes it; the others are ggml's types. */
export const STORED_FORMS = ['q4_0', 'q4_K', 'mxfp4', 'q8_0', 'fp8'] as const
export type StoredForm = (typeof STORED_FORMS)[number]

/** A dtype, or a stored form, whose codes are multiplied in bf16. */
export type WeightKind = DType | StoredForm
export const WEIGHT_KINDS: readonly WeightKind[] = [...DTYPES, ...STORED_FORMS]

export function isStoredForm(kind: string): kind is StoredForm {
  return (STORED_FORMS as readonly string[]).includes(kind)
}

/** The dtype of the expert matmuls. */
export function arithmeticOf(kind: WeightKind): DType {
  return isStoredForm(kind) ? 'bf16' : kind
}

/** Rows and columns that share a scale of `fp8`. */
export const FP8_BLOCK = 128

/** Numbers, bytes and elements of ggml's types, by their lower-case names. */
const GGML = new Map(
  [...GGUF_TYPES].map(([number, type]) => [type.name.toLowerCase(), { number, ...type }] as const),
)

/** @throws where ggml has no type of that name */
export function ggmlType(name: string): { number: number; blockBytes: number; perBlock: number } {
  const type = GGML.get(name.toLowerCase())
  if (!type) throw new Error(`ggml has no type ${name}`)
  return type
}

/** The type of a matrix of a model in that form: as llama.cpp does, Q5_0 stands in for Q4_K where rows are no whole blocks of it. */
export function ggmlTypeOf(form: Exclude<StoredForm, 'fp8'>, cols: number): string {
  return cols % ggmlType(form).perBlock === 0 ? form : 'q5_0'
}

/** Bytes of a matrix as a checkpoint stores it. */
export function storedBytes(kind: WeightKind, rows: number, cols: number): number {
  if (kind === 'fp8') return rows * cols + 4 * Math.ceil(rows / FP8_BLOCK) * Math.ceil(cols / FP8_BLOCK)
  if (!isStoredForm(kind)) return rows * cols * (kind === 'f32' ? 4 : 2)
  const { blockBytes, perBlock } = ggmlType(ggmlTypeOf(kind, cols))
  return (rows * cols * blockBytes) / perBlock
}

/** Bytes of a layer's matrices as a checkpoint stores them, and of its router in f32. */
export function layerStoredBytes(config: MoeConfig, kind: WeightKind): number {
  const { hiddenSize, intermediateSize, numExperts } = config
  const mlp = (width: number) =>
    2 * storedBytes(kind, width, hiddenSize) + storedBytes(kind, hiddenSize, width)
  const shared = sharedSize(config)
  return numExperts * mlp(intermediateSize) + (shared ? mlp(shared) : 0) + 4 * numExperts * hiddenSize
}
