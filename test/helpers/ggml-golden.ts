/** Blocks of every ggml type and the values that ggml's own decoders give for them (test/golden/ggml). */

import { readFileSync } from 'node:fs'
import path from 'node:path'
import { brotliDecompressSync } from 'node:zlib'
import type { StoredType } from '../../lib/spec/formats.js'

const FOLDER = path.join(import.meta.dirname, '../golden/ggml')

export interface GgmlGolden {
  type: StoredType
  /** ggml's number of the type. */
  number: number
  /** Of one block. */
  elements: number
  bytes: number
  /** How many there are. */
  blocks: number
  /** `[blocks * bytes]` */
  stored: Uint8Array
  /** `[blocks * elements]` */
  values: Float32Array
}

/** All types, as ggml has them. */
export function ggmlGolden(): GgmlGolden[] {
  const rows = JSON.parse(readFileSync(path.join(FOLDER, 'index.json'), 'utf8')) as GgmlGolden[]
  const stored = Uint8Array.from(readFileSync(path.join(FOLDER, 'blocks.bin')))
  const plain = brotliDecompressSync(readFileSync(path.join(FOLDER, 'values.br.bin')))
  const values = new Float32Array(Uint8Array.from(plain).buffer)
  let [byte, value] = [0, 0]
  return rows.map(row => {
    const [firstByte, firstValue] = [byte, value]
    byte += row.blocks * row.bytes
    value += row.blocks * row.elements
    return { ...row, stored: stored.slice(firstByte, byte), values: values.slice(firstValue, value) }
  })
}
