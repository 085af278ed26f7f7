/** The golden logits of the trained model, which examples/tiny-deepseek/train/golden.py wrote. */

import path from 'node:path'
import { readSafetensors } from '../cases/safetensors.js'

/** A short text of the held-out bytes. */
export interface GoldenWindow {
  tokens: Uint8Array
  /** `[tokens.length, vocabSize]`: PyTorch's in double precision. */
  logits: Float32Array
  /** By sparse layer, `[tokens.length, topK]`. */
  topkIds: ReadonlyMap<number, Int32Array>
}

export async function goldenWindows(): Promise<GoldenWindow[]> {
  const tensors = await readSafetensors(path.join(import.meta.dirname, 'golden.safetensors'))
  const count = tensors.get('tokens')!.shape[0]!
  const layers = [...tensors.keys()].flatMap(name => /^layers\.(\d+)\.topk_ids$/.exec(name)?.[1] ?? [])
  return Array.from({ length: count }, (_, index) => {
    const part = (name: string) => {
      const { data } = tensors.get(name)!
      const size = data.length / count
      return data.slice(index * size, (index + 1) * size)
    }
    return {
      tokens: Uint8Array.from(part('tokens')),
      logits: Float32Array.from(part('logits')),
      topkIds: new Map(
        layers.map(layer => [Number(layer), Int32Array.from(part(`layers.${layer}.topk_ids`))]),
      ),
    }
  })
}
