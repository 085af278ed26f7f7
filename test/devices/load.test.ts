/** Loading on the raw addon and of plans: values, cancelling, bad files, and memory. */

import { execFileSync } from 'node:child_process'
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fromFloat32 } from '../../lib/block/dtype.js'
import type { LayerPlan, MatrixItem } from '../../lib/checkpoint/plan/layer-plan.js'
import { tryLoadNative } from '../../lib/devices/native/addon.js'
import type { NativeAddon, NativeError, NativeLayer } from '../../lib/devices/native/binding-contract.js'
import { loadNativeMatrices, openNativeLayer } from '../../lib/devices/native/load-layers.js'
import { shareOfLoop } from '../helpers/liveness.js'
import { skippedBesideLinux } from '../helpers/platform.js'
import {
  forward,
  isCard,
  makeConfig,
  makeDescription,
  makeLayer,
  makeRequest,
  relativeError,
  testDevice,
  weightBytes,
} from './fixtures/layer.mjs'

const native = tryLoadNative()
if ('error' in native) console.warn(`skipped: ${native.error.message}`)

let directory = ''
beforeAll(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'sparse-experts-'))
})
// Windows keeps the name of a deleted file while a load that was cancelled still has it open.
afterAll(() => rmSync(directory, { recursive: true, force: true, maxRetries: 50 }))

/** Writes the matrices of a test layer one after the other, and the items that read them. */
function writeMatrices(
  file: string,
  test: ReturnType<typeof makeLayer>,
  type: 'F32' | 'BF16',
  transposed = false,
) {
  const { hiddenSize: H, intermediateSize: I } = test.config
  const items: MatrixItem[] = []
  const descriptor = openSync(file, 'w')
  // A header that is not a multiple of any alignment.
  let offset = writeSync(descriptor, Buffer.alloc(13))
  test.matrices.forEach((expert, e) => {
    for (const matrix of ['gate', 'up', 'down'] as const) {
      const [rows, cols] = matrix === 'down' ? [H, I] : [I, H]
      let values = expert[matrix]
      if (transposed)
        values = Float32Array.from(
          values,
          (_, i) => expert[matrix][(i % rows) * cols + Math.floor(i / rows)]!,
        )
      const bytes = writeSync(descriptor, fromFloat32(values, type === 'F32' ? 'f32' : 'bf16') as Uint16Array)
      items.push({
        role: 'expert',
        expert: e,
        matrix,
        rows,
        cols,
        encoding: { codec: 'float', transposed },
        data: { file: 0, offset, bytes, type, name: `experts.${e}.${matrix}` },
      })
      offset += bytes
    }
  })
  // Windows keeps the name of a file that is open, and with it the directory.
  closeSync(descriptor)
  return { file, items, bytes: offset }
}

/** A layer of 288 MiB of zeros, in a sparse file. */
function largeZeros() {
  const config = makeConfig({ hiddenSize: 2048, intermediateSize: 2048, numExperts: 6 })
  const bytes = 2048 * 2048 * 4
  const file = path.join(directory, 'zeros')
  writeFileSync(file, '')
  truncateSync(file, 18 * bytes)
  const items = Array.from({ length: 18 }, (_, i): MatrixItem => {
    const matrix = (['gate', 'up', 'down'] as const)[i % 3]!
    const data = { file: 0, offset: i * bytes, bytes, type: 'F32' as const, name: `${i}` }
    return {
      role: 'expert',
      expert: Math.floor(i / 3),
      matrix,
      rows: 2048,
      cols: 2048,
      encoding: { codec: 'float' },
      data,
    }
  })
  return { config, file, items, bytes: 18 * bytes }
}

describe.skipIf('error' in native)('load', () => {
  const addon = (native as { addon: NativeAddon }).addon
  const load = (layer: NativeLayer, files: string[], items: MatrixItem[]) =>
    new Promise<NativeError | null>(resolve => {
      addon.loadLayers([{ layer, files, items }], null, resolve)
    })

  it.each([
    ['F32', 'f32', false, 1e-7],
    ['F32', 'f32', true, 1e-7],
    ['BF16', 'bf16', false, 0],
    ['BF16', 'f32', false, 1e-2],
    ['F32', 'f16', true, 2e-3],
  ] as const)('reads %s into %s (transposed %s)', async (type, dtype, transposed, bound) => {
    const test = makeLayer(addon, makeConfig(), { dtype })
    const { file, items } = writeMatrices(
      path.join(directory, `${type}-${dtype}-${transposed}`),
      test,
      type,
      transposed,
    )
    for (const gateUpInterleaved of [false, true]) {
      const layer = addon.createLayer(makeDescription(test.config, { dtype, gateUpInterleaved }))
      expect(await load(layer, [file], items)).toBeNull()
      const loaded = makeRequest(test.config, 8)
      const set = makeRequest(test.config, 8)
      await forward(layer, loaded)
      await forward(test.layer, set)
      expect(relativeError(loaded.output, set.output)).toBeLessThanOrEqual(bound)
      layer.dispose()
    }
    test.layer.dispose()
  })

  it('refuses forwards until it is done, and for good after a failure', async () => {
    const test = makeLayer(addon)
    const { file, items } = writeMatrices(path.join(directory, 'states'), test, 'F32')
    const layer = addon.createLayer(makeDescription(test.config))
    const invalid = expect.objectContaining({ moeCode: 'INVALID_ARGUMENT' })
    const loading = load(layer, [path.join(directory, 'absent')], items)
    expect(() => layer.forward(makeRequest(test.config, 1), () => {})).toThrow(invalid)
    expect(() => addon.loadLayers([{ layer, files: [file], items }], null, () => {})).toThrow(invalid)
    expect(() => layer.setMatrix('expert', 0, 'up', new Float32Array(128), 'f32', 0, 16, 1)).toThrow(invalid)
    const error = await loading
    expect(error?.moeCode).toBe('IO')
    expect(error?.message).toContain('absent')
    expect(() => layer.forwardSync(makeRequest(test.config, 1))).toThrow(invalid)
    expect(await load(layer, [file], items)).toBeNull()
    expect(() => layer.forwardSync(makeRequest(test.config, 1))).not.toThrow()
    layer.dispose()
    test.layer.dispose()
  })

  it('answers every defect of a file with an error that names it', async () => {
    const test = makeLayer(addon)
    const { file, items, bytes } = writeMatrices(path.join(directory, 'whole'), test, 'F32')
    const codeOf = async (files: string[], list: MatrixItem[]) => {
      const layer = addon.createLayer(makeDescription(test.config))
      try {
        const error = await load(layer, files, list)
        return `${error?.moeCode ?? 'none'}: ${error?.message}`
      } catch (error) {
        return `thrown ${(error as NativeError).moeCode}`
      } finally {
        layer.dispose()
      }
    }
    const short = path.join(directory, 'short')
    for (const length of [0, 12, 13, 100, bytes - 1]) {
      writeFileSync(short, '')
      truncateSync(short, length)
      expect(await codeOf([short], items), `${length} bytes`).toMatch(/^IO: .*short/)
    }
    mkdirSync(path.join(directory, 'folder'))
    expect(await codeOf([path.join(directory, 'folder')], items)).toMatch(/^IO: .*folder/)
    const [first] = items as [MatrixItem]
    const withData = (change: object) => [{ ...first, data: { ...first.data, ...change } }]
    expect(await codeOf([file], withData({ bytes: 8 }))).toMatch(/^INVALID_ARGUMENT: .*experts.0.gate/)
    expect(await codeOf([file], withData({ bytes: 2 ** 52 }))).toMatch(/^INVALID_ARGUMENT/)
    expect(await codeOf([file], withData({ offset: 2 ** 53 - 1 }))).toMatch(/^IO/)
    expect(await codeOf([file], withData({ type: 'BF16' }))).toMatch(/^INVALID_ARGUMENT/)
    expect(await codeOf([file], withData({ type: 'I64' }))).toMatch(/^INVALID_ARGUMENT/)
    expect(await codeOf([file], withData({ file: 1 }))).toBe('thrown INVALID_ARGUMENT')
    expect(await codeOf([file], withData({ bytes: 0 }))).toBe('thrown INVALID_ARGUMENT')
    expect(await codeOf([file], withData({ type: 'F4' }))).toBe('thrown INVALID_ARGUMENT')
    expect(await codeOf([`${file}\0x`], items)).toBe('thrown INVALID_ARGUMENT')
    const changed = (change: object) => [{ ...first, ...change }] as MatrixItem[]
    expect(await codeOf([file], changed({ rows: 9 }))).toBe('thrown INVALID_ARGUMENT')
    expect(await codeOf([file], changed({ cols: 0 }))).toBe('thrown INVALID_ARGUMENT')
    expect(await codeOf([file], changed({ expert: 4 }))).toBe('thrown INVALID_ARGUMENT')
    expect(await codeOf([file], changed({ role: 'shared' }))).toBe('thrown INVALID_ARGUMENT')
    expect(await codeOf([file], changed({ encoding: { codec: 'zip' } }))).toBe('thrown INVALID_ARGUMENT')
    for (const codec of ['e2m1', 'packedInt', 'awq', 'gptq']) {
      expect(
        await codeOf([file], changed({ encoding: { codec, block: { rows: 1, cols: 32 } } })),
        codec,
      ).toMatch(/^INVALID_ARGUMENT/)
    }
    const scale = { file: 0, offset: 0, bytes: 2 ** 50, type: 'F32', name: 'scales' }
    expect(
      await codeOf([file], changed({ scale, encoding: { codec: 'float', block: { rows: 1, cols: 1 } } })),
    ).toMatch(/^IO: .*scales/)
    test.layer.dispose()
  })

  it('does not hold the event loop', async () => {
    const { config, file, items } = largeZeros()
    const layer = addon.createLayer(makeDescription(config))
    expect(await shareOfLoop(() => load(layer, [file], items))).toBeLessThan(0.5)
    layer.dispose()
  })

  it('stops when cancelled, reports progress that rises, and frees the layer on dispose', async () => {
    const { config, file, items, bytes } = largeZeros()
    let layer: NativeLayer
    let cancel: () => void
    // On a busy machine the load may be over before this thread hears of its first bytes: then again.
    for (let attempt = 1; ; attempt++) {
      const seen: number[] = []
      layer = addon.createLayer(makeDescription(config))
      const error = await new Promise<NativeError | null>(resolve => {
        const onProgress = (loadedBytes: number) => {
          seen.push(loadedBytes)
          cancel()
        }
        cancel = addon.loadLayers([{ layer, files: [file], items }], onProgress, resolve)
      })
      expect(seen.length).toBeGreaterThan(0)
      expect(seen).toEqual(seen.toSorted((a, b) => a - b))
      if (error) expect(error.moeCode).toBe('CANCELLED')
      if (error && seen.at(-1)! < bytes) break
      layer.dispose()
      expect(attempt).toBeLessThan(20)
    }
    cancel!()
    const disposed = load(layer, [file], items)
    layer.dispose()
    expect((await disposed)?.moeCode).toBe('CANCELLED')
    expect(weightBytes(layer)).toBe(0)
  })

  it('loads a plan: progress, abort with the reason, errors of the package', async () => {
    const test = makeLayer(addon)
    const { file, items, bytes } = writeMatrices(path.join(directory, 'plan'), test, 'F32')
    const plan: LayerPlan = {
      layer: 0,
      config: test.config,
      storedDtype: 'f32',
      files: [file],
      notices: [],
      gateUpInterleaved: false,
      matrices: items,
      vectors: [],
      totalBytes: bytes,
    }
    const options = {
      device: testDevice,
      dtype: 'f32' as const,
      weights: 'expand' as const,
      activations: 'exact' as const,
      threads: 0,
      batchInvariant: false,
      maxJointTokens: 256,
    }
    const vectors = { routerWeight: test.routerWeight }
    const loadPlan = async (planned: LayerPlan, signal?: AbortSignal) => {
      const opened = await openNativeLayer(addon, planned, vectors, { ...options, signal })
      try {
        await loadNativeMatrices(addon, [opened], { reservedTokens: 0, signal, onProgress })
        return opened.runtime
      } catch (error) {
        opened.runtime.dispose()
        throw error
      }
    }
    const progress: number[] = []
    const onProgress = (loaded: number) => progress.push(loaded)
    const runtime = await loadPlan(plan)
    expect(Math.max(0, ...progress)).toBeLessThanOrEqual(bytes - 13)
    const [loaded, expected] = [makeRequest(test.config, 5), makeRequest(test.config, 5)]
    await runtime.forward(loaded).settled
    test.layer.forwardSync(expected)
    expect(loaded.output).toEqual(expected.output)
    runtime.dispose()
    await expect(runtime.forward(loaded).settled).rejects.toMatchObject({ code: 'ERR_MOE_DISPOSED' })

    const reason = new Error('no longer wanted')
    const controller = new AbortController()
    const aborted = loadPlan(plan, controller.signal)
    controller.abort(reason)
    await expect(aborted).rejects.toBe(reason)
    await expect(loadPlan(plan, controller.signal)).rejects.toBe(reason)
    const absent = loadPlan({ ...plan, files: ['absent'] })
    const error = await absent.catch(error => error)
    expect(error).toMatchObject({ code: 'ERR_MOE_IO' })
    expect(error.stack).toContain('load.test.ts')
    const wrong = { ...plan, matrices: items.map(item => ({ ...item, data: { ...item.data, bytes: 4 } })) }
    await expect(loadPlan(wrong)).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_CHECKPOINT',
    })
    const huge = { ...plan, config: makeConfig({ intermediateSize: 2 ** 31 }) }
    await expect(loadPlan(huge)).rejects.toMatchObject({
      code: 'ERR_MOE_OUT_OF_MEMORY',
      details: { neededBytes: expect.any(Number), freeBytes: expect.any(Number) },
    })
    test.layer.dispose()
  })

  it.skipIf(isCard)(
    'of two layers that are not written yet, the second is told what the first will take',
    () => {
      const { freeBytes } = addon.backends().find(({ name }) => name === 'cpu')!.devices[0]!
      const [hiddenSize, intermediateSize] = [4096, 4096]
      const numExperts = Math.ceil((0.6 * freeBytes) / (3 * 4 * hiddenSize * intermediateSize))
      const description = makeDescription(makeConfig({ hiddenSize, intermediateSize, numExperts }))
      // Neither touches its memory.
      const first = addon.createLayer(description)
      expect(() => addon.createLayer(description)).toThrow(
        expect.objectContaining({ moeCode: 'OUT_OF_MEMORY', freeBytes: expect.any(Number) }),
      )
      first.dispose()
      addon.createLayer(description).dispose()
    },
  )

  const noPeak = skippedBesideLinux('the peak of memory', 'it is read from /proc')
  it.skipIf(noPeak || Boolean(process.env.SPARSE_EXPERTS_SANITIZED)).each([
    // Bytes of a file for each weight, how many experts, and what they are held as.
    ['F32', 'f32', 4, 12, 'expand'],
    ['BF16', 'bf16', 2, 24, 'expand'],
    ['F8_E4M3', 'bf16', 1, 24, 'expand'],
    ['I32', 'bf16', 4.5 / 8, 24, 'expand'],
    ['I32', 'bf16', 4.5 / 8, 84, 'auto'],
  ] as const)('holds one copy of the weights at its peak: %s into %s', (...row) => {
    const [type, dtype, weightBytes, numExperts, weights] = row
    const file = path.join(directory, `peak-${type}-${weights}`)
    writeFileSync(file, '')
    truncateSync(file, numExperts * 1024 * 1536 * 3 * weightBytes)
    const script = fileURLToPath(new URL('fixtures/peak.mjs', import.meta.url))
    const args = [script, file, type, dtype, String(numExperts), weights]
    const report = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }))
    expect(report.bytes).toBeGreaterThan(200 << 20)
    if (report.inProcess) {
      expect(report.risenByLoad).toBeGreaterThan(0.9 * report.bytes)
      // Up to four readers, each with one matrix as it is stored and half a mebibyte of its rows, and what the process itself takes.
      expect(report.risenByLoad).toBeLessThan(report.bytes + (64 << 20))
    } else {
      // A card's driver takes its share at the first use; what the load itself takes is small.
      expect(report.risenByLoad - report.risenByCreate).toBeLessThan(0.15 * report.bytes)
    }
    if (!isCard) expect(report.risenByCreate).toBeLessThan(0.1 * report.bytes)
  })
})
