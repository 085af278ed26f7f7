/** A hostile caller of the addon's functions for weights in stored form gets an error with a code, and never a crash. */

import { describe, expect, it } from 'vitest'
import { tryLoadNative } from '../../lib/devices/native/addon.js'
import type { NativeAddon } from '../../lib/devices/native/binding-contract.js'
import { makeConfig, makeDescription, makeLayer, testDevice } from './fixtures/layer.mjs'
import { type Any, codeOf, STRANGE } from './fixtures/strange.js'

const native = tryLoadNative()
const [ROWS, COLS] = [8, 16]
const DONE = 'nothing was thrown'

/** Integers of four bits `[8, 16]`, with everything that such a matrix may have. */
const encoding = () => ({ codec: 'packedInt', bits: 4, block: { rows: 1, cols: 16 } }) as Any
const parts = (): Any => ({
  data: { bytes: new Uint8Array((ROWS * COLS) / 2), type: 'I32' },
  scale: { bytes: new Uint8Array(ROWS * 2), type: 'F16' },
  zeroPoint: { bytes: new Uint8Array(4), type: 'I32' },
  groupIndex: { bytes: new Uint8Array(COLS * 4), type: 'I32' },
})

const segment = (bytes: number, type: string) => ({ file: 0, offset: 0, bytes, type, name: 'w' })
const item = (): Any => ({
  role: 'expert',
  expert: 0,
  matrix: 'up',
  rows: ROWS,
  cols: COLS,
  encoding: encoding(),
  data: segment((ROWS * COLS) / 2, 'I32'),
  scale: segment(ROWS * 2, 'F16'),
})

const FORMAT = {
  code: 'u4',
  table: 'q-8',
  scale: 'f16',
  offset: 'none',
  blockRows: 1,
  blockCols: 16,
  superCols: 0,
  flags: 0,
}

describe.skipIf('error' in native)('weights in stored form', () => {
  const addon = (native as { addon: NativeAddon }).addon
  const config = makeConfig()

  it('setEncoded refuses strange values wherever they stand', () => {
    const { layer } = makeLayer(addon, config)
    const set = (...args: Any[]) => codeOf(() => (layer.setEncoded as Any)(...args))
    const good = () => ['expert', 0, 'up', encoding(), parts()] as Any[]
    expect(set(...good())).toBe(DONE)
    for (const strange of STRANGE) {
      for (let at = 0; at < 5; at++) {
        const args = good()
        args[at] = strange
        expect(set(...args), `argument ${at} ${String(strange)}`).toBe('INVALID_ARGUMENT')
      }
      for (const field of Object.keys(encoding())) {
        // Absent, bits are four; without blocks there is no place for the scale.
        if (field === 'bits' && (strange === undefined || strange === null)) continue
        const args = good()
        args[3][field] = strange
        expect(set(...args), `${field} ${String(strange)}`).toBe('INVALID_ARGUMENT')
      }
      for (const part of Object.keys(parts())) {
        for (const field of ['bytes', 'type']) {
          const args = good()
          args[4][part][field] = strange
          expect(set(...args), `${part}.${field} ${String(strange)}`).toBe('INVALID_ARGUMENT')
        }
      }
    }
    layer.dispose()
  })

  it('setEncoded takes pointers, and looks at the layer, only after the last getter has run', () => {
    const { layer } = makeLayer(addon, config)
    const set = (given: Any) => codeOf(() => (layer.setEncoded as Any)('expert', 0, 'up', encoding(), given))
    const detaching = parts()
    const { bytes } = detaching.data
    Object.defineProperty(detaching, 'groupIndex', {
      get() {
        structuredClone(bytes, { transfer: [bytes.buffer] })
        return undefined
      },
    })
    // It has no bytes any more.
    expect(set(detaching)).toBe('INVALID_ARGUMENT')
    const disposing = parts()
    Object.defineProperty(disposing, 'columnScale', {
      get() {
        layer.dispose()
        return undefined
      },
    })
    expect(set(disposing)).toBe('DISPOSED')
  })

  it('chooseFormats and matrixBytes refuse strange values wherever they stand', () => {
    const choose = (...args: Any[]) => codeOf(() => (addon.chooseFormats as Any)(...args))
    const goodChoice = () => [testDevice, 'f32', 'auto', false, [item()]] as Any[]
    const measure = (...args: Any[]) => codeOf(() => (addon.matrixBytes as Any)(...args))
    const goodMeasure = () => [testDevice, 'f32', { ...FORMAT }, ROWS, COLS] as Any[]
    expect(choose(...goodChoice())).toBe(DONE)
    expect(measure(...goodMeasure())).toBe(DONE)
    for (const strange of STRANGE) {
      const expected = strange === 'x' ? /INVALID_ARGUMENT|DEVICE_UNAVAILABLE/ : /INVALID_ARGUMENT/
      for (let at = 0; at < 5; at++) {
        const isList = at === 4 && Array.isArray(strange)
        const choice = goodChoice()
        choice[at] = strange
        if (!isList && !(at === 3 && strange === true))
          expect(choose(...choice), `choose ${at} ${String(strange)}`).toMatch(expected)
        const measured = goodMeasure()
        measured[at] = strange
        expect(measure(...measured), `measure ${at} ${String(strange)}`).toMatch(expected)
      }
      for (const field of Object.keys(FORMAT)) {
        const code = measure(testDevice, 'f32', { ...FORMAT, [field]: strange }, ROWS, COLS)
        expect(code, `${field} ${String(strange)}`).toBe('INVALID_ARGUMENT')
      }
    }
  })

  it('a layer takes no format that is none, none that its device does not hold, and no index behind them', () => {
    const create = (formats: Any, formatOf: Any, matrices: Any = [item()]) =>
      codeOf(() => {
        const made = addon.createLayer({ ...makeDescription(config), formats, formatOf, matrices } as Any)
        made.dispose()
      })
    const isCpu = testDevice === 'cpu'
    expect(create([FORMAT], [0])).toBe(isCpu ? DONE : 'INVALID_ARGUMENT')
    expect(create([FORMAT], [1])).toBe('INVALID_ARGUMENT')
    expect(create([FORMAT], [])).toBe('INVALID_ARGUMENT')
    expect(create([FORMAT], [0], [{ ...item(), expert: 99 }])).toBe('INVALID_ARGUMENT')
    // Zero points of floats; an index without a table; super blocks that no panel has.
    for (const change of [
      { code: 'e4m3', table: 'none', offset: 'zero' },
      { table: 'none' },
      { scale: 'u8', superCols: 512, blockCols: 32 },
      { blockCols: 0 },
    ]) {
      const format = { ...FORMAT, ...change }
      expect(create([format], [0]), JSON.stringify(change)).toBe('INVALID_ARGUMENT')
    }
    for (const strange of STRANGE.filter(value => value !== undefined && value !== null)) {
      const isEmpty = Array.isArray(strange)
      expect(create(strange, [0]), `formats ${String(strange)}`).toBe('INVALID_ARGUMENT')
      expect(create([FORMAT], strange), `formatOf ${String(strange)}`).toBe('INVALID_ARGUMENT')
      if (!isEmpty) expect(create([FORMAT], [0], strange)).toBe('INVALID_ARGUMENT')
    }
  })
})
