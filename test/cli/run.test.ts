import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { MoeLayer } from '../../lib/api/moe-layer.js'
import { f16ToNumber, numberToF16 } from '../../lib/block/dtype.js'
import { randomHiddenStates, readHiddenStates } from '../../lib/cli/hidden-states.js'
import { ERROR_BOUNDS, INT8_ACTIVATIONS_BOUND } from '../../lib/devices/accuracy.js'
import { devices } from '../../lib/devices/device.js'
import { goldenCases } from '../golden/cases.js'
import { GGUF_CASES } from '../golden/gguf-cases.js'
import { ggufOf, removeGguf, writeGguf } from '../golden/gguf-layer.js'
import { skippedOnWindows } from '../helpers/platform.js'
import { runInProcess } from '../helpers/run-in-process.js'
import { finished, repository, runCommand, startCommand } from '../helpers/run-program.js'
import { removeDirectories, TINY, temporaryDirectory, tinyCheckpoint } from '../helpers/scratch.js'

let checkpoint: string
let inputs: string
const hasCpu = devices().some(device => device.id === 'cpu' && device.available)

beforeAll(async () => {
  checkpoint = await tinyCheckpoint()
  inputs = await temporaryDirectory()
})
afterAll(removeDirectories)
afterAll(removeGguf)

const onReference = (args: readonly string[]) => ['run', checkpoint, '--device', 'reference', ...args]
const run = (...args: string[]) => runInProcess(onReference(args))

async function runJson(...args: string[]) {
  const { stdout, stderr, status } = await run('--json', ...args)
  if (stdout === '') throw new Error(stderr)
  return { status, report: JSON.parse(stdout) }
}

describe.each(hasCpu ? ['reference', 'cpu'] : ['reference'])('run on %s', device => {
  it('shows the layer, its timing, its load and what it saved', async () => {
    const { status, stdout, stderr } = await runCommand([
      'run',
      checkpoint,
      '--device',
      device,
      '--tokens',
      '20',
      '--check',
    ])
    expect(stderr).toContain('Loading layer 1')
    expect(status).toBe(0)
    for (const part of [
      `layer 1, deepseek_v3, bf16 on ${device}`,
      'hidden 132 · 16 experts of 130 · 4 per token',
      'sigmoid per expert, best 2 of 4 groups by the sum of their two best, top 4, weights renormalised, scaled by 2.5',
      '1 shared expert, 130 wide',
      'for 20 tokens (median of',
      'FLOP/s',
      'Expert load  80 token-expert pairs',
      '16 of 16 experts active',
      'Work saved against dense',
    ]) {
      expect(stdout).toContain(part)
    }
    expect(stdout).toMatch(
      /check +ok {2}relative error \S+ \(bound 8\.0e-3\), expert ids equal, all of 20 rows/,
    )
    expect(stdout).not.toContain('\u001b[')
  })
})

describe.skipIf(!hasCpu)('weights', () => {
  it.each([
    ['int4', 'f16 as u4 ('],
    ['expand', 'weights  f16\n'],
  ])('%s is said and checked', async (weights, said) => {
    const golden = goldenCases().find(({ name }) => name === 'qwen3_moe')!
    const args = [
      'run',
      golden.directory,
      '--device',
      'cpu',
      '--tokens',
      '5',
      '--weights',
      weights,
      '--check',
    ]
    const { status, stdout, stderr } = await runInProcess(args)
    expect(status, stderr).toBe(0)
    expect(stdout).toContain(said)
  })

  it('as they are stored', async () => {
    const golden = goldenCases().find(({ name }) => name === 'gpt_oss_mxfp4')!
    const args = [
      'run',
      golden.directory,
      '--layer',
      String(golden.expected.layer),
      '--device',
      'cpu',
      '--tokens',
      '3',
      '--weights',
      'stored',
      '--json',
    ]
    const { stdout } = await runInProcess(args)
    expect(JSON.parse(stdout).weightFormat.up).toMatchObject({ stored: 'mxfp4', held: 'u4' })
    const { status, stderr } = await runInProcess([...args.slice(0, -2), 'int5'])
    expect([status, stderr]).toEqual([2, expect.stringContaining('--weights')])
  })

  it('activations as int8, checked against exact ones', async () => {
    const golden = goldenCases().find(({ name }) => name === 'qwen3_moe')!
    const options = ['--device', 'cpu', '--tokens', '5', '--weights', 'int8', '--check', '--json']
    const run = (activations: string) =>
      runInProcess(['run', golden.directory, ...options, '--activations', activations])
    const { stdout } = await run('int8')
    expect(JSON.parse(stdout)).toMatchObject({
      activations: 'int8',
      kernel: expect.stringContaining('int8 activations'),
      check: { ok: true, bound: INT8_ACTIVATIONS_BOUND },
    })
    const { status, stderr } = await run('int4')
    expect([status, stderr]).toEqual([2, expect.stringContaining('--activations')])
  })
})

describe('run', () => {
  it('prints the same as JSON, figures that agree with each other', async () => {
    const args = ['--json', '--tokens', '12', '--dtype', 'f32', '--check']
    const { status, stdout } = await runCommand(onReference(args))
    expect(status).toBe(0)
    const report = JSON.parse(stdout)
    expect(report).toMatchObject({
      layer: 1,
      device: 'reference',
      dtype: 'f32',
      numTokens: 12,
      nonFiniteRows: [],
    })
    expect(report.config).toMatchObject({
      hiddenSize: TINY.hiddenSize,
      numExperts: TINY.numExperts,
      topK: TINY.topK,
    })
    expect(report.work.expertTokens).toHaveLength(TINY.numExperts)
    expect(report.work.expertTokens.reduce((a: number, b: number) => a + b)).toBe(12 * TINY.topK)
    expect(report.work.denseFlops).toBeGreaterThan(report.work.flops)
    expect(report.times.length).toBeGreaterThan(0)
    expect(report.load.bytes).toBeGreaterThan(17 * 3 * TINY.hiddenSize * TINY.moeIntermediateSize)
    expect(report.check).toMatchObject({
      checkedRows: 12,
      ok: true,
      rowsWithOtherIds: [],
      bound: ERROR_BOUNDS.f32,
    })
    expect(report.check.relativeError).toBeLessThanOrEqual(ERROR_BOUNDS.f32)
  })

  it.each([
    ['deepseek_v4_hash', 'experts from the token-id table', 'with random token ids'],
    ['gemma4', 'softmax over all experts', 'with a random router input'],
    ['switch_transformers', 'at most 2 tokens of a sequence per expert', 'random hidden states'],
    ['llama4', 'routing weight on its input', 'random hidden states'],
    ['gpt_oss', 'β = 1.702', 'random hidden states'],
  ])('brings what a layer of %s needs', async (name, routing, input) => {
    const directory = path.join(repository, 'test/golden/cases', name)
    const { layer } = JSON.parse(await readFile(path.join(directory, 'expected.json'), 'utf8'))
    const options = ['--layer', String(layer), '--tokens', '9', '--dtype', 'f32', '--check']
    const { status, stdout } = await runInProcess(['run', directory, ...options])
    expect(stdout).toContain(routing)
    expect(stdout).toContain(input)
    expect(stdout).toMatch(
      /check +ok {2}relative error \S+ \(bound 5\.0e-6\), expert ids equal, all of 9 rows/,
    )
    expect(status).toBe(0)
  })

  it('runs a GGUF file', async () => {
    const golden = goldenCases().find(({ name }) => name === 'deepseek_v4_hash')!
    const ggufCase = GGUF_CASES.find(item => item.golden === golden.name)!
    const { file } = await ggufOf(golden, ggufCase)
    const options = ['--layer', String(golden.expected.layer), '--tokens', '9', '--dtype', 'f32', '--check']
    const { status, stdout } = await runInProcess(['run', writeGguf(file, 'v4.gguf'), ...options])
    expect(stdout).toMatch(/v4\.gguf/)
    expect(stdout).toContain('with random token ids')
    expect(stdout).toMatch(
      /check +ok {2}relative error \S+ \(bound 5\.0e-6\), expert ids equal, all of 9 rows/,
    )
    expect(status).toBe(0)
  })

  it('spends less on request', async () => {
    const { report: two } = await runJson('--tokens', '12', '--top-k', '2')
    expect(two.work.expertTokens.reduce((a: number, b: number) => a + b)).toBe(24)
    const { report: share } = await runJson('--tokens', '12', '--top-p', '0.5')
    const used = share.work.expertTokens.reduce((a: number, b: number) => a + b)
    expect(used).toBeGreaterThanOrEqual(12)
    expect(used).toBeLessThan(48)
  })

  it('runs no tokens', async () => {
    const { status, stdout } = await run('--tokens', '0')
    expect(status).toBe(0)
    expect(stdout).toContain('for 0 tokens')
  })

  it('reads raw, npy and JSON input, and the same numbers give the same routing', async () => {
    const states = randomHiddenStates(5, TINY.hiddenSize, 42)
    const npy = (descr: string, data: ArrayBufferView, shape = `(5, ${TINY.hiddenSize})`) => {
      const header = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${shape}, }`.padEnd(117, ' ')
      return Buffer.concat([
        Buffer.from('\x93NUMPY\x01\x00v\x00', 'latin1'),
        Buffer.from(`${header}\n`, 'latin1'),
        new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
      ])
    }
    const rows = Array.from({ length: 5 }, (_, row) => [...states.subarray(row * 132, (row + 1) * 132)])
    const files: Record<string, Uint8Array | string> = {
      'states.bin': new Uint8Array(states.buffer),
      'states.npy': npy('<f4', states),
      'rows.json': JSON.stringify(rows),
      'flat.json': JSON.stringify(rows.flat()),
    }
    const loads: number[][] = []
    for (const [name, contents] of Object.entries(files)) {
      const file = path.join(inputs, name)
      await writeFile(file, contents)
      const { report } = await runJson('--input', file)
      expect(report).toMatchObject({ numTokens: 5, input: { kind: 'file', file } })
      loads.push(report.work.expertTokens)
    }
    expect(new Set(loads.map(String)).size).toBe(1)
    const layer = await MoeLayer.load(checkpoint, { device: 'reference' })
    expect(loads[0]).toEqual([...(await layer.forward(states)).work.expertTokens])
    layer.dispose()

    const half = path.join(inputs, 'half.npy')
    await writeFile(half, npy('<f2', Uint16Array.from(states, numberToF16)))
    expect((await runJson('--input', half)).report.numTokens).toBe(5)
    // What numpy.save makes of other dtypes and orders.
    const bytesOf = (bytes: 2 | 4 | 8, little: boolean, isFortran = false) => {
      const view = new DataView(new ArrayBuffer(states.length * bytes))
      states.forEach((value, i) => {
        const [row, col] = [Math.floor(i / 132), i % 132]
        const at = (isFortran ? col * 5 + row : i) * bytes
        if (bytes === 8) view.setFloat64(at, value, little)
        else if (bytes === 4) view.setFloat32(at, value, little)
        else view.setUint16(at, numberToF16(value), little)
      })
      return view
    }
    const other = path.join(inputs, 'other.npy')
    for (const [descr, bytes, little] of [
      ['<f8', 8, true],
      ['>f8', 8, false],
      ['>f4', 4, false],
      ['>f2', 2, false],
    ] as const) {
      await writeFile(other, npy(descr, bytesOf(bytes, little)))
      const read = await readHiddenStates(other, 132)
      expect(read).toEqual(
        bytes === 2 ? Float32Array.from(states, value => f16ToNumber(numberToF16(value))) : states,
      )
    }
    const byColumns = Buffer.from(npy('<f4', bytesOf(4, true, true)))
    byColumns.write("'fortran_order': True, ", byColumns.indexOf("'fortran_order'"), 'latin1')
    await writeFile(other, byColumns)
    expect(await readHiddenStates(other, 132)).toEqual(states)
    await writeFile(path.join(inputs, 'object.json'), JSON.stringify({ hiddenStates: rows }))
    expect(await readHiddenStates(path.join(inputs, 'object.json'), 132)).toEqual(states)
    await writeFile(other, npy('<i4', states))
    await expect(readHiddenStates(other, 132)).rejects.toThrow(/array\.astype\(numpy\.float32\)/)
    await writeFile(path.join(inputs, 'several.npz'), 'PK')
    await expect(readHiddenStates(path.join(inputs, 'several.npz'), 132)).rejects.toThrow(/numpy\.save/)
    const wrong = path.join(inputs, 'wrong.npy')
    await writeFile(wrong, npy('<f4', states, '(660,)'))
    const { status, stderr } = await run('--input', wrong)
    expect(status).toBe(1)
    expect(stderr).toMatch(/error \[ERR_MOE_INVALID_ARG_SHAPE\]: .*shape \[numTokens, 132\].*\[660\]/)
  })

  it('flags rows that are not finite, and still checks the others', async () => {
    const states = randomHiddenStates(4, TINY.hiddenSize, 9)
    states[2 * TINY.hiddenSize + 7] = Number.NaN
    const file = path.join(inputs, 'nan.bin')
    await writeFile(file, states)
    const { status, stdout } = await run('--input', file, '--check')
    expect(stdout).toContain('1 row not finite: 2')
    expect(stdout).toMatch(/check +ok.*left out: 1 not finite on either side/)
    expect(status).toBe(0)
  })

  it('looks at its arguments before it loads', async () => {
    for (const [args, message] of [
      [['--top-k', '5'], 'Expected an integer from 0 to 4 for --top-k'],
      [['--input', path.join(inputs, 'nowhere.npy')], 'ERR_MOE_IO'],
    ] as const) {
      const { stderr, status } = await run(...args)
      expect(stderr).toContain(message)
      expect(stderr).not.toContain('Loading')
      expect(status).not.toBe(0)
    }
  })

  it('reports operational errors with their code and the next step, the stack only for debugging', async () => {
    const { status, stdout, stderr } = await runCommand(onReference(['--layer', '0']))
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
    expect(stderr).toMatch(/^error \[ERR_MOE_NOT_SPARSE\]: .+\n→ .+\n$/)
    const missing = await runInProcess(['run', path.join(inputs, 'nothing')])
    expect(missing.status).toBe(1)
    expect(missing.stderr).toMatch(/^error \[ERR_MOE_\w+\]: .+\n→ .+\n$/)
    const debug = await runInProcess(['run', checkpoint, '--layer', '0'], { SPARSE_EXPERTS_DEBUG: '1' })
    expect(debug.stderr).toMatch(/\n {4}at /)
  })

  it('says when a device cannot serve', async () => {
    const { status, stderr } = await runInProcess(['run', checkpoint, '--device', 'cuda:7'])
    expect(status).toBe(1)
    expect(stderr).toMatch(/^error \[ERR_MOE_DEVICE_UNAVAILABLE\]: /)
  })

  const noSignals = skippedOnWindows('Ctrl-C', 'it has no signals between processes')
  it.skipIf(noSignals)('stops at Ctrl-C with status 130', async () => {
    // Tokens that take the reference many seconds: it is told to stop before it has begun, or while it runs.
    const child = startCommand(onReference(['--tokens', '32768']))
    const end = finished(child)
    child.stderr!.once('data', () => child.kill('SIGINT'))
    const { status, stdout, stderr } = await end
    expect({ status, stdout }).toEqual({ status: 130, stdout: '' })
    expect(stderr).toMatch(/Interrupted\n$/)
    expect(stderr).not.toContain('    at ')
  })
})
