/** Symmetric integer codes of the layer's weights as QMoE reads them: int8 with a scale per row, int4 with one per block of 32. */

import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs'
import path from 'node:path'
import { toFloat32 } from '../harness/package.js'
import type { PeerLayer } from '../harness/peer.js'
import { bitsOf, interleave } from './layer-files.js'
import type { Initializer } from './onnx-model.js'

/** Columns that share a scale of int4, and of the shared experts. */
export const BLOCK = 32

/** Codes are unsigned, the middle stands for zero; two int4 codes share a byte, the first in its low half. */
export function quantize(
  values: Float32Array,
  bits: 8 | 4,
  block: number,
): { codes: Uint8Array; scales: Float32Array } {
  const middle = 2 ** (bits - 1)
  const scales = new Float32Array(values.length / block)
  const codes = new Uint8Array((values.length * bits) / 8)
  for (let b = 0; b < scales.length; b++) {
    let largest = 0
    for (let i = b * block; i < (b + 1) * block; i++) largest = Math.max(largest, Math.abs(values[i]!))
    const scale = largest / (middle - 1) || 1
    scales[b] = scale
    for (let i = b * block; i < (b + 1) * block; i++) {
      const code = Math.round(values[i]! / scale) + middle
      if (bits === 8) codes[i] = code
      else codes[i >> 1]! |= code << (4 * (i & 1))
    }
  }
  return { codes, scales }
}

/** Writes codes and scales of both matrices, expert by expert. */
export function writeQuantized(
  { config, weights, directory }: PeerLayer,
  kind: 'int8' | 'int4',
): Initializer[] {
  const { hiddenSize, intermediateSize, numExperts } = config
  const bits = kind === 'int8' ? 8 : 4
  const matrices = [
    { name: 'fc1', rows: 2 * intermediateSize, cols: hiddenSize },
    { name: 'fc2', rows: hiddenSize, cols: intermediateSize },
  ]
  return matrices.flatMap(({ name, rows, cols }) => {
    const block = kind === 'int8' ? cols : BLOCK
    const files = [`${name}.${kind}`, `${name}_scales.${kind}`].map(file => path.join(directory, file))
    const [codesFile, scalesFile] = files.map(file => openSync(file, 'w'))
    for (const expert of weights.experts) {
      const matrix = name === 'fc1' ? interleave(expert, hiddenSize) : bitsOf(expert.down)
      const { codes, scales } = quantize(toFloat32(matrix, 'bf16'), bits, block)
      writeSync(codesFile!, codes)
      writeSync(scalesFile!, new Uint8Array(scales.buffer))
    }
    closeSync(codesFile!)
    closeSync(scalesFile!)
    const blocks = kind === 'int8' ? [] : [cols / BLOCK]
    return [
      { name, dims: [numExperts, rows, (cols * bits) / 8], type: 'uint8' as const, file: files[0]! },
      {
        name: `${name}_scales`,
        dims: [numExperts, rows, ...blocks],
        type: 'float32' as const,
        file: files[1]!,
      },
    ]
  })
}

/** One matrix as MatMulNBits reads it: `[rows, blocks, bytes of a block]`, and a scale per block. */
export function writeBlocks(
  directory: string,
  { name, rows, cols }: { name: string; rows: number; cols: number },
  matrix: Uint16Array,
  bits: 8 | 4,
): Initializer[] {
  const { codes, scales } = quantize(toFloat32(matrix, 'bf16'), bits, BLOCK)
  const files = [`${name}.int${bits}`, `${name}_scales.int${bits}`].map(file => path.join(directory, file))
  writeFileSync(files[0]!, codes)
  writeFileSync(files[1]!, new Uint8Array(scales.buffer))
  const blocks = cols / BLOCK
  return [
    { name, dims: [rows, blocks, (BLOCK * bits) / 8], type: 'uint8', file: files[0]! },
    { name: `${name}_scales`, dims: [rows * blocks], type: 'float32', file: files[1]! },
  ]
}
