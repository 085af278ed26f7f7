/** The native decoder gives the bits of the TypeScript one, for every codec, output dtype and awkward shape. */

import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, renameSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { DTYPES, type DType, dtypeBytes, fromFloat32 } from '../../lib/block/dtype.js'
import { decodeMatrix } from '../../lib/checkpoint/load/decode.js'
import type { EncodedBuffer } from '../../lib/checkpoint/load/encoded.js'
import { CODECS, STORED_PARTS, STORED_TYPES } from '../../lib/spec/formats.js'
import { type EncodedCase, encodedCases } from '../helpers/checkpoint-encodings.js'

const ROOT = path.join(import.meta.dirname, '../..')
const COMPILER = process.env.CXX ?? 'c++'
const version = spawnSync(COMPILER, ['--version'], { encoding: 'utf8' })
const hasCompiler = version.status === 0

const GLOBAL_OPS = [undefined, 'multiply', 'divide']

function int64s(...values: number[]): Buffer {
  return Buffer.from(BigInt64Array.from(values, BigInt).buffer)
}

function span(buffer: EncodedBuffer | undefined): Buffer[] {
  if (!buffer) return [int64s(STORED_TYPES.indexOf('U8'), 0)]
  return [int64s(STORED_TYPES.indexOf(buffer.type), buffer.bytes.byteLength), Buffer.from(buffer.bytes)]
}

function request({ encoding, buffers, rows, cols }: EncodedCase, dtype: DType): Buffer {
  return Buffer.concat([
    int64s(
      CODECS.indexOf(encoding.codec),
      encoding.bits ?? (['packedInt', 'gptq'].includes(encoding.codec) ? 4 : 0),
      encoding.transposed ? 1 : 0,
      encoding.zeroOffset ?? 0,
      GLOBAL_OPS.indexOf(encoding.globalScaleOp),
      encoding.block?.rows ?? 0,
      encoding.block?.cols ?? 0,
      rows,
      cols,
      DTYPES.indexOf(dtype),
      encoding.signed ? 1 : 0,
    ),
    ...STORED_PARTS.flatMap(part => span(buffers[part])),
  ])
}

/** Bits, with every NaN made the same: its sign and payload are not part of the contract. */
function canonicalBits(values: ArrayBufferLike, dtype: DType): Uint32Array | Uint16Array {
  if (dtype === 'f32') {
    return new Uint32Array(values).map(bits => ((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc00000 : bits))
  }
  const infinity = dtype === 'bf16' ? 0x7f80 : 0x7c00
  return new Uint16Array(values).map(bits => ((bits & 0x7fff) > infinity ? 0x7fff : bits))
}

describe.skipIf(!hasCompiler)(`native decoder (skipped without a C++ compiler; CXX or c++)`, () => {
  let program: string

  beforeAll(async () => {
    const steps = pathToFileURL(path.join(ROOT, 'tools/build/steps.mjs')).href
    const { isOlderThan } = (await import(steps)) as {
      isOlderThan(output: string, inputs: string[]): boolean
    }
    const sources = readdirSync(path.join(ROOT, 'csrc/formats'), { recursive: true, encoding: 'utf8' })
      .filter(name => name.endsWith('.cc'))
      .map(name => path.join(ROOT, 'csrc/formats', name))
    const flags = ['-std=c++17', '-O2', '-ffp-contract=off', `-I${path.join(ROOT, 'csrc')}`]
    const command = [COMPILER, ...flags, path.join(ROOT, 'test/native/decode_main.cc'), ...sources]
    const id = createHash('sha256').update(`${command} ${version.stdout}`).digest('hex').slice(0, 16)
    program = path.join(ROOT, 'build/programs', `decode_main-${id}`)
    if (!isOlderThan(program, ['csrc', 'test/native'])) return
    mkdirSync(path.dirname(program), { recursive: true })
    // Another run may start the same program meanwhile.
    const unfinished = `${program}.${process.pid}`
    execFileSync(COMPILER, [...command.slice(1), '-o', unfinished])
    renameSync(unfinished, program)
  })

  it.each(DTYPES)('decodes to %s bit by bit', dtype => {
    const cases = encodedCases(dtype === 'f32' ? 1 : dtype === 'f16' ? 2 : 3)
    const { stdout, status } = spawnSync(program, {
      input: Buffer.concat(cases.map(item => request(item, dtype))),
      maxBuffer: 1 << 30,
    })
    expect(status).toBe(0)
    let position = 0
    for (const item of cases) {
      const { label, encoding, buffers, rows, cols } = item
      expect(stdout.readBigInt64LE(position), label).toBe(1n)
      position += 8
      const bytes = rows * cols * dtypeBytes(dtype)
      const native = Uint8Array.from(stdout.subarray(position, position + bytes))
      position += bytes
      const expected = fromFloat32(decodeMatrix(encoding, buffers, rows, cols), dtype)
      if (Buffer.compare(native, new Uint8Array(expected.buffer)) === 0) continue
      const [actualBits, expectedBits] = [
        canonicalBits(native.buffer, dtype),
        canonicalBits(expected.buffer, dtype),
      ]
      const difference = actualBits.findIndex((bits, i) => bits !== expectedBits[i])
      expect(difference, `${label}: first differing element`).toBe(-1)
    }
    expect(position).toBe(stdout.byteLength)
  })
})
