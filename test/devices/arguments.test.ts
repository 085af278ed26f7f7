/**
 * A hostile caller of the raw addon gets an error with a code wherever something could lead outside of memory, and never a crash. The
 * debug contract is off here, as it is in use: contract.test.ts is about what that refuses besides.
 */

import { describe, expect, it } from 'vitest'
import { tryLoadNative } from '../../lib/devices/native/addon.js'
import type { NativeAddon } from '../../lib/devices/native/binding-contract.js'
import { forward, makeConfig, makeDescription, makeLayer, makeRequest, noise } from './fixtures/layer.mjs'
import { type Any, codeOf, STRANGE } from './fixtures/strange.js'

delete process.env.SPARSE_EXPERTS_CHECK
const native = tryLoadNative()
if ('error' in native) console.warn(`skipped: ${native.error.message}`)

describe.skipIf('error' in native)('raw addon', () => {
  const addon = (native as { addon: NativeAddon }).addon
  const config = makeConfig()
  const none = () => {}

  it('refuses strange values in every field of a description', () => {
    for (const strange of STRANGE) {
      expect(
        codeOf(() => addon.createLayer(strange)),
        String(strange),
      ).toBe('INVALID_ARGUMENT')
      const good = makeDescription(config)
      for (const field of Object.keys(good)) {
        if (typeof good[field as keyof typeof good] === 'boolean' && strange === true) continue
        const code = codeOf(() => addon.createLayer({ ...good, [field]: strange }))
        // A device by the name of 'x' is well-formed, there is none.
        expect(code, `${field} ${String(strange)}`).toBe(
          field === 'device' && strange === 'x' ? 'DEVICE_UNAVAILABLE' : 'INVALID_ARGUMENT',
        )
      }
    }
  })

  it('refuses strange values in every field of a config', () => {
    const harmless = new Set(['family', 'normTopkProb', 'routerInput'])
    const numeric = new Set([
      'normValue',
      'routedScalingFactor',
      'logitSoftcap',
      'sparsemixerEpsilon',
      'routerNormEpsilon',
      'latentNormEpsilon',
    ])
    const vectors = makeDescription(config).vectors
    for (const field of Object.keys(config)) {
      if (harmless.has(field)) continue
      for (const strange of STRANGE) {
        if (field === 'capacity' && (strange === null || strange === undefined)) continue
        if ((field === 'hashRouted' || field === 'gated') && strange === true) continue
        const isNumber = typeof strange === 'number' && Number.isFinite(strange)
        if ((numeric.has(field) || /^swiglu|^shared.*Limit/.test(field)) && isNumber) continue
        const code = codeOf(() =>
          addon.createLayer(makeDescription(config, { vectors, config: { ...config, [field]: strange } })),
        )
        expect(code, `${field} ${String(strange)}`).toBe('INVALID_ARGUMENT')
      }
    }
  })

  it('refuses vectors of the wrong length, and those that the block has no use for', () => {
    const routerWeight = noise(config.numExperts * config.hiddenSize, 1)
    const create = (vectors: Any) => codeOf(() => addon.createLayer(makeDescription(config, { vectors })))
    expect(create({})).toBe('INVALID_ARGUMENT')
    expect(create({ routerWeight: routerWeight.subarray(1) })).toBe('INVALID_ARGUMENT')
    expect(create({ routerWeight, gateBias: new Float32Array(3) })).toBe('INVALID_ARGUMENT')
    expect(create({ routerWeight, sharedUpBias: new Float32Array(8) })).toBe('INVALID_ARGUMENT')
    expect(create({ routerWeight, selectionBias: new Int32Array(4) })).toBe('INVALID_ARGUMENT')
    const hashed = makeConfig({ hashRouted: true, scoringFunc: 'sqrtsoftplus' })
    const hash = (ids: number[]) =>
      codeOf(() =>
        addon.createLayer(
          makeDescription(hashed, { vectors: { routerWeight, hashTable: Int32Array.from(ids) } }),
        ),
      )
    expect(hash([0, 4])).toBe('INVALID_ARGUMENT')
    expect(hash([-1, 0])).toBe('INVALID_ARGUMENT')
    expect(hash([])).toBe('INVALID_ARGUMENT')
    expect(hash([0])).toBe('INVALID_ARGUMENT')
    // Rows of topK ids: what is left over is no row.
    expect(hash([0, 1, 9])).toBe('nothing was thrown')
  })

  it('answers sizes beyond any memory with OUT_OF_MEMORY and figures', () => {
    for (const [intermediateSize, numExperts] of [
      [2 ** 31, 4],
      [2 ** 24, 2 ** 20],
      [2 ** 31, 2 ** 20],
    ] as const) {
      const huge = makeConfig({ intermediateSize, numExperts })
      try {
        addon.createLayer(makeDescription(huge))
        expect.unreachable()
      } catch (error) {
        expect(error).toMatchObject({ moeCode: 'OUT_OF_MEMORY' })
        const { neededBytes, freeBytes } = error as { neededBytes: number; freeBytes: number }
        expect(neededBytes).toBeGreaterThan(freeBytes)
        expect(freeBytes).toBeGreaterThan(0)
      }
    }
    // The router's weight cannot have the length that this needs.
    const wide = makeDescription(config, { config: makeConfig({ hiddenSize: 2 ** 31 }) })
    expect(codeOf(() => addon.createLayer(wide))).toBe('INVALID_ARGUMENT')
  })

  it('refuses a matrix that is not there or not covered by its array', () => {
    const { layer } = makeLayer(addon)
    const data = noise(8 * 16, 3)
    const set = (...args: Any[]) => codeOf(() => (layer.setMatrix as Any)(...args))
    expect(set('expert', 4, 'up', data, 'f32', 0, 16, 1)).toBe('INVALID_ARGUMENT')
    expect(set('expert', -1, 'up', data, 'f32', 0, 16, 1)).toBe('INVALID_ARGUMENT')
    expect(set('shared', 0, 'up', data, 'f32', 0, 16, 1)).toBe('INVALID_ARGUMENT')
    expect(set('latent', 0, 'up', data, 'f32', 0, 16, 1)).toBe('INVALID_ARGUMENT')
    expect(set('expert', 0, 'up', data, 'bf16', 0, 16, 1)).toBe('INVALID_ARGUMENT')
    expect(set('expert', 0, 'up', data, 'f32', 1, 16, 1)).toBe('INVALID_ARGUMENT')
    expect(set('expert', 0, 'up', data, 'f32', 0, 17, 1)).toBe('INVALID_ARGUMENT')
    expect(set('expert', 0, 'up', data, 'f32', 0, 2 ** 53, 2 ** 53)).toBe('INVALID_ARGUMENT')
    expect(set('expert', 0, 'up', data, 'f32', 0, -16, 1)).toBe('INVALID_ARGUMENT')
    for (const strange of STRANGE) {
      for (let at = 0; at < 8; at++) {
        // Stride −1 and 0 … are numbers that some matrices fit into.
        if (at >= 5 && typeof strange === 'number' && Number.isInteger(strange) && strange < 2 ** 53) continue
        const args: Any[] = ['expert', 0, 'up', data, 'f32', 0, 16, 1]
        args[at] = strange
        expect(set(...args), `argument ${at} ${String(strange)}`).toBe('INVALID_ARGUMENT')
      }
    }
    // The same array backwards, from its end: inside.
    expect(set('expert', 0, 'up', data, 'f32', 8 * 16 - 1, -16, -1)).toBe('nothing was thrown')
    layer.dispose()
  })

  it('refuses strange values in every field of a request, asynchronously and synchronously', () => {
    const { layer } = makeLayer(addon)
    const optional = new Set(['routerInput', 'tokenIds', 'sequenceLengths', 'copies'])
    for (const run of [(r: Any) => layer.forward(r, none), (r: Any) => layer.forwardSync(r)]) {
      for (const field of Object.keys(makeRequest(config, 2))) {
        for (const strange of STRANGE) {
          if (optional.has(field) && (strange === null || strange === undefined)) continue
          if (field === 'replay' && strange === true) continue
          if (field === 'copies' && Array.isArray(strange)) continue
          // Its range breaks no memory: lib's rule, and the debug contract's.
          if (field === 'topP' && Number.isFinite(strange)) continue
          const code = codeOf(() => run({ ...makeRequest(config, 2), [field]: strange }))
          expect(code, `${field} ${String(strange)}`).toBe('INVALID_ARGUMENT')
        }
      }
      for (const strange of STRANGE) expect(codeOf(() => run(strange))).toBe('INVALID_ARGUMENT')
    }
    for (const strange of STRANGE) {
      if (typeof strange === 'function') continue
      expect(codeOf(() => layer.forward(makeRequest(config, 2), strange))).toBe('INVALID_ARGUMENT')
    }
    layer.dispose()
  })

  it('refuses copies between arrays that are not those of a request', () => {
    const { layer } = makeLayer(addon)
    const size = 3 * config.hiddenSize
    const good = { from: new Float32Array(size), to: new Float32Array(size), first: 0 }
    const run = (item: Any) => codeOf(() => layer.forward(makeRequest(config, 3, { copies: [item] }), none))
    for (const strange of STRANGE) {
      expect(run(strange)).toBe('INVALID_ARGUMENT')
      for (const field of Object.keys(good)) {
        expect(run({ ...good, [field]: strange }), field).toBe('INVALID_ARGUMENT')
      }
    }
    for (const field of ['from', 'to'] as const) {
      expect(run({ ...good, [field]: good[field].subarray(1) })).toBe('INVALID_ARGUMENT')
      expect(run({ ...good, [field]: new Uint16Array(size) })).toBe('INVALID_ARGUMENT')
      const gone = new Float32Array(size)
      structuredClone(gone, { transfer: [gone.buffer] })
      expect(run({ ...good, [field]: gone })).toBe('DETACHED')
    }
    // Nothing is missing where `first` is the end, or beyond it.
    for (const first of [size, 2 ** 40]) expect(run({ ...good, first })).toBe('nothing was thrown')
    layer.dispose()
  })

  it('refuses rules whose sizes lead outside of the routing', () => {
    for (const wrong of [
      { topK: 5 },
      { topK: 1, scoringFunc: 'sparsemixer' },
      { numExpertGroups: 3, topkGroup: 1 },
      { numExpertGroups: 8, topkGroup: 1 },
      { numExpertGroups: 2, topkGroup: 3 },
    ] as const) {
      const code = codeOf(() => addon.createLayer(makeDescription(makeConfig(wrong))))
      expect(code, JSON.stringify(wrong)).toBe('INVALID_ARGUMENT')
    }
  })

  it('refuses arrays that do not match numTokens', () => {
    const { layer } = makeLayer(addon)
    const run = (overrides: Any) =>
      codeOf(() => layer.forward({ ...makeRequest(config, 3), ...overrides }, none))
    for (const field of ['hidden', 'output', 'topkIds', 'topkWeights', 'nonFinite'] as const) {
      const array = makeRequest(config, 3)[field] as Float32Array
      expect(run({ [field]: array.subarray(1) }), field).toBe('INVALID_ARGUMENT')
      expect(run({ [field]: array.subarray(0, 0) }), field).toBe('INVALID_ARGUMENT')
    }
    expect(run({ numTokens: 2 ** 31 - 1 })).toBe('INVALID_ARGUMENT')
    expect(run({ numTokens: 2 ** 30 })).toBe('INVALID_ARGUMENT')
    expect(run({ topK: Uint8Array.of(1, 2) })).toBe('INVALID_ARGUMENT')
    const gone = makeRequest(config, 3)
    structuredClone(gone.hidden, { transfer: [gone.hidden.buffer as ArrayBuffer] })
    expect(codeOf(() => layer.forward(gone, none))).toBe('DETACHED')
    layer.dispose()
  })

  it('refuses contents out of range, each call by itself', async () => {
    const { layer } = makeLayer(addon)
    const hashed = makeConfig({ hashRouted: true, scoringFunc: 'sqrtsoftplus' })
    const { vectors } = makeDescription(hashed)
    const hashTable = Int32Array.of(0, 1, 2, 3)
    const byTokenId = makeLayer(addon, hashed, { vectors: { ...vectors, hashTable } }).layer
    for (const [target, overrides] of [
      [layer, { topK: 3 }],
      [layer, { topK: 2 ** 31 }],
      [layer, { topK: Uint8Array.of(1, 2, 3) }],
      [layer, { sequenceLengths: Int32Array.of(2, 2) }],
      [layer, { sequenceLengths: Int32Array.of(4, -1) }],
      [layer, { sequenceLengths: new Int32Array(0) }],
      [layer, { replay: true, topkIds: Int32Array.of(0, 1, 2, 3, 4, 0) }],
      [layer, { replay: true, topkIds: Int32Array.of(0, 1, 2, 3, -2, 0) }],
      [byTokenId, {}],
      [byTokenId, { tokenIds: Int32Array.of(0, 1, 2) }],
      [byTokenId, { tokenIds: Int32Array.of(0, -1, 1) }],
    ] as const) {
      const request = () => ({ ...makeRequest(config, 3), ...(overrides as Any) })
      const error: Any = await new Promise(done => target.forward(request(), done))
      expect(error?.moeCode, JSON.stringify(overrides)).toBe('INVALID_ARGUMENT')
      expect(
        codeOf(() => target.forwardSync(request())),
        JSON.stringify(overrides),
      ).toBe('INVALID_ARGUMENT')
    }
    await forward(byTokenId, makeRequest(config, 3, { tokenIds: Int32Array.of(0, 1, 0) }))
    await forward(layer, makeRequest(config, 3))
    layer.dispose()
    byTokenId.dispose()
  })

  it('takes pointers only after the last getter has run', () => {
    const { layer } = makeLayer(addon)
    const request: Any = makeRequest(config, 3)
    const { hidden } = request
    // nonFinite is the last field that is read.
    Object.defineProperty(request, 'nonFinite', {
      get() {
        structuredClone(hidden, { transfer: [hidden.buffer] })
        return new Uint8Array(3)
      },
    })
    expect(codeOf(() => layer.forward(request, none))).toBe('DETACHED')
    const disposing: Any = makeRequest(config, 3)
    Object.defineProperty(disposing, 'replay', {
      get() {
        layer.dispose()
        return false
      },
    })
    expect(codeOf(() => layer.forward(disposing, none))).toBe('DISPOSED')
  })

  it('refuses arrays in resizable buffers', () => {
    const { layer } = makeLayer(addon)
    const Resizable = ArrayBuffer as unknown as new (
      bytes: number,
      options: { maxByteLength: number },
    ) => ArrayBuffer
    const hidden = new Float32Array(new Resizable(3 * 16 * 4, { maxByteLength: 4096 }))
    expect(codeOf(() => layer.forward({ ...makeRequest(config, 3), hidden }, none))).toBe('INVALID_ARGUMENT')
    Object.defineProperty(hidden.buffer, 'resizable', { value: false })
    expect(codeOf(() => layer.forward({ ...makeRequest(config, 3), hidden }, none))).toBe('INVALID_ARGUMENT')
    layer.dispose()
  })

  it('refuses a forged this and a constructor call', () => {
    const { layer } = makeLayer(addon)
    const methods: Any = Object.getPrototypeOf(layer)
    for (const name of [
      'setMatrix',
      'setEncoded',
      'load',
      'forward',
      'cancel',
      'forwardSync',
      'workspaceBytes',
      'describeForward',
      'memory',
      'phases',
      'dispose',
    ]) {
      for (const forged of [undefined, {}, Object.create(layer), new Proxy(layer, {}), addon, new Map()]) {
        expect(() => methods[name].call(forged), name).toThrow()
      }
    }
    const Constructor = (layer as Any).constructor
    expect(() => new Constructor()).toThrow()
    expect(() => Reflect.construct(Constructor, [{}], Map)).toThrow()
    expect(() => Constructor()).toThrow()
    class Derived extends Constructor {}
    expect(() => new Derived()).toThrow()
    layer.dispose()
    expect(layer.memory()).toMatchObject({ hostBytes: 0 })
  })

  it('refuses blocks of device memory that are strange, forged, too small or gone', () => {
    for (const strange of STRANGE) {
      expect(codeOf(() => addon.allocate('cpu', strange))).toBe('INVALID_ARGUMENT')
      expect(codeOf(() => addon.allocate(strange, 4))).toBe(
        strange === 'x' ? 'DEVICE_UNAVAILABLE' : 'INVALID_ARGUMENT',
      )
      expect(codeOf(() => addon.deviceLoss(strange))).toBe(
        strange === 'x' ? 'nothing was thrown' : 'INVALID_ARGUMENT',
      )
    }
    expect(codeOf(() => addon.allocate('cpu', 2 ** 52))).toBe('OUT_OF_MEMORY')
    const buffer = addon.allocate('cpu', 64)
    expect(buffer).toMatchObject({ byteLength: 64, device: 'cpu' })
    buffer.upload(Uint8Array.from({ length: 64 }, (_, i) => i))
    const read = new Uint16Array(32)
    buffer.download(read)
    expect(read[1]).toBe(0x0302)
    for (const strange of [
      ...STRANGE,
      new Uint8Array(63),
      new Float32Array(17),
      new DataView(new ArrayBuffer(64)),
    ]) {
      expect(codeOf(() => buffer.upload(strange))).toBe('INVALID_ARGUMENT')
      expect(codeOf(() => buffer.download(strange))).toBe('INVALID_ARGUMENT')
    }
    const methods: Any = Object.getPrototypeOf(buffer)
    const { layer } = makeLayer(addon, config, { device: 'cpu' })
    for (const forged of [undefined, {}, Object.create(buffer), new Proxy(buffer, {}), addon, layer]) {
      for (const name of ['upload', 'download', 'dispose']) {
        expect(() => methods[name].call(forged, new Uint8Array(64)), name).toThrow()
      }
    }
    const Constructor = (buffer as Any).constructor
    expect(() => new Constructor('cpu', 4)).toThrow()
    expect(() => Constructor('cpu', 4)).toThrow()

    const run = (hidden: Any) => codeOf(() => layer.forwardSync({ ...makeRequest(config, 1), hidden }))
    expect(run(buffer)).toBe('nothing was thrown')
    expect(run(addon.allocate('cpu', 63))).toBe('INVALID_ARGUMENT')
    expect(run(Object.create(buffer))).toBe('INVALID_ARGUMENT')
    expect(run(new Proxy(buffer, {}))).toBe('INVALID_ARGUMENT')
    expect(run(layer)).toBe('INVALID_ARGUMENT')
    buffer.dispose()
    buffer.dispose()
    expect(buffer.byteLength).toBe(0)
    expect(run(buffer)).toBe('DISPOSED')
    expect(codeOf(() => buffer.upload(new Uint8Array(64)))).toBe('DISPOSED')
    layer.dispose()
  })

  it('takes blocks wherever it takes arrays, and keeps them while a call has them', async () => {
    const { layer } = makeLayer(addon, config, { device: 'cpu' })
    const expected = makeRequest(config, 3)
    layer.forwardSync(expected)
    const hidden = addon.allocate('cpu', expected.hidden.byteLength)
    const output = addon.allocate('cpu', expected.output.byteLength)
    hidden.upload(expected.hidden)
    const call = new Promise(resolve => layer.forward({ ...makeRequest(config, 3), hidden, output }, resolve))
    hidden.dispose()
    expect(await call).toBeNull()
    const result = new Float32Array(expected.output.length)
    output.download(result)
    expect(result).toEqual(expected.output)
    layer.dispose()
  })

  it('refuses stages with strange arguments and with tables that point outside', () => {
    const stages = addon as Any
    for (const name of [
      'gate',
      'selectExperts',
      'dispatch',
      'expertMatmul',
      'combine',
      'workspaceBytes',
      'describeForward',
    ]) {
      expect(
        codeOf(() => stages[name]()),
        name,
      ).toBe('INVALID_ARGUMENT')
      for (const strange of STRANGE) {
        expect(
          codeOf(() => stages[name]('cpu', ...Array(11).fill(strange))),
          `${name} ${String(strange)}`,
        ).toBe('INVALID_ARGUMENT')
      }
    }
    const dispatch = (ids: number[], experts: number) =>
      codeOf(() =>
        addon.dispatch(
          'cpu',
          Int32Array.from(ids),
          ids.length,
          experts,
          new Int32Array(experts + 1),
          new Int32Array(ids.length),
        ),
      )
    expect(dispatch([0, 1, 2], 2)).toBe('INVALID_ARGUMENT')
    expect(dispatch([0, -2], 2)).toBe('INVALID_ARGUMENT')
    expect(dispatch([0, -1, 1], 2)).toBe('nothing was thrown')
    const matmul = (expertOffsets: number[], sortedSlots: number[]) =>
      codeOf(() =>
        addon.expertMatmul(
          'cpu',
          {
            x: new Float32Array(2 * 4),
            xDtype: 'f32',
            xRows: 2,
            weights: new Float32Array(2 * 3 * 4),
            weightsDtype: 'f32',
            numExperts: 2,
            rows: 3,
            cols: 4,
            bias: null,
            gather: false,
            topK: 1,
            interleaved: false,
            activation: null,
            expertOffsets: Int32Array.from(expertOffsets),
            sortedSlots: Int32Array.from(sortedSlots),
          },
          new Float32Array(2 * 3),
        ),
      )
    expect(matmul([0, 1, 2], [0, 1])).toBe('nothing was thrown')
    for (const offsets of [
      [0, 1, 3],
      [0, 2, 1],
      [1, 1, 2],
      [-1, 0, 2],
      [0, 1],
    ]) {
      expect(matmul(offsets, [0, 1]), String(offsets)).toBe('INVALID_ARGUMENT')
    }
    for (const slots of [
      [0, 2],
      [-1, 0],
      [2 ** 31 - 1, 0],
    ])
      expect(matmul([0, 1, 2], slots), String(slots)).toBe('INVALID_ARGUMENT')
  })
})
