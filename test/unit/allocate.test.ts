/** Memory that the system refuses is a coded error, wherever a caller or a file decides how much is asked for. */

import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { allocate, allocateBytes } from '../../lib/block/allocate.js'

const library = path.resolve(import.meta.dirname, '../../lib')
/** A view of a buffer, or so few bytes that they are there. */
const HARMLESS = /new \w+Array\((?:\d+\)|LENGTH_BYTES\)|(?:\w+\.)*buffer\b)/
/** Node's own options bound what the command line reads and writes. */
const APART = ['cli', path.join('block', 'allocate.ts')]

describe('allocate', () => {
  it('gives zeros, or a copy', () => {
    expect(allocate(Float32Array, 3)).toEqual(new Float32Array(3))
    const values = Float64Array.of(1, 2)
    expect(allocate(Float32Array, values)).toEqual(Float32Array.of(1, 2))
    expect(allocate(Float64Array, values)).not.toBe(values)
    expect(allocateBytes(8).byteLength).toBe(8)
  })

  it('says what was asked for and what is left', () => {
    for (const ask of [() => allocate(Float64Array, 2 ** 50), () => allocateBytes(2 ** 53)]) {
      expect(ask).toThrow(
        expect.objectContaining({
          code: 'ERR_MOE_OUT_OF_MEMORY',
          details: { neededBytes: 2 ** 53, freeBytes: expect.any(Number) },
        }),
      )
    }
    // A size that is none is a defect of the library, not one of the machine.
    expect(() => allocate(Int32Array, -1)).toThrow(RangeError)
  })

  it('makes all arrays of the library whose length is not a constant', () => {
    const files = readdirSync(library, { recursive: true, encoding: 'utf8' }).filter(
      file => file.endsWith('.ts') && !APART.some(name => file.startsWith(name)),
    )
    const others = files.flatMap(file =>
      readFileSync(path.join(library, file), 'utf8')
        .split('\n')
        .filter(line => /new (?:\w+Array|ArrayBuffer)\(/.test(line) && !HARMLESS.test(line))
        .map(line => `${file}: ${line.trim()}`),
    )
    expect(others).toEqual([])
  })
})
