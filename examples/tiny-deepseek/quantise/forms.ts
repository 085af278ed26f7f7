/** The forms in which the model's feed-forwards are held and measured. */

import path from 'node:path'
import { Decoder } from '../decoder/decoder.js'
import type { FeedForwardOptions } from '../decoder/feed-forward.js'
import { BLOCK_TYPES, type BlockType } from './encode.js'
import { loadTinyGguf, writeTinyGguf } from './gguf.js'

/** int8 and int4 are quantised while the checkpoint is read; the others are GGUF files. */
export const TINY_FORMS = ['bf16', 'int8', 'int4', ...BLOCK_TYPES] as const
export type TinyForm = (typeof TINY_FORMS)[number]

export const isBlockType = (form: TinyForm): form is BlockType =>
  (BLOCK_TYPES as readonly string[]).includes(form)

/**
 * @param directory of the checkpoint
 * @param scratch where a GGUF file is written
 */
export async function loadTiny(
  form: TinyForm,
  directory: string,
  scratch: string,
  options: FeedForwardOptions,
): Promise<Decoder> {
  const inBf16 = { ...options, dtype: 'bf16' as const }
  if (isBlockType(form)) {
    const file = path.join(scratch, `tiny-${form}.gguf`)
    await writeTinyGguf(directory, form, file)
    return loadTinyGguf(directory, file, form, inBf16)
  }
  return Decoder.load(directory, { ...inBf16, ...(form === 'bf16' ? {} : { weights: form }) })
}

/** Bytes that the feed-forwards hold. */
export function heldBytes({ feedForwards }: Decoder): number {
  return feedForwards.reduce((sum, layer) => {
    const { hostBytes, deviceBytes } = layer.stats()
    return sum + hostBytes + deviceBytes
  }, 0)
}
