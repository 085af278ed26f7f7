/**
 * A short window on a machine with a GPU, rehearsed: everything is compiled beforehand (tools/release/gpu-check --prepare --prebuilt), and the
 * other machine has neither compiler nor CMake. The emulator takes the GPU's place, and a library of this test the energy counter's.
 */

import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { compileEnergyCounter } from '../helpers/energy-counter.js'
import {
  cleanUp,
  cloneTree,
  emptyDirectory,
  type RunResult,
  repository,
  run,
  shareModules,
} from './workbench.js'

afterAll(cleanUp)

interface Report {
  summary: string
  prebuilt: string
  revision: string
  phases: Record<string, { ok: boolean | null; hopper?: Record<string, boolean>; noted?: string[] }>
}
interface Lines {
  report: Report
  numbers: Record<string, unknown>[]
  tune: Record<string, unknown>[]
  energy: Record<string, unknown>[]
}

const which = (command: string) =>
  spawnSync('sh', ['-c', `command -v ${command}`], { encoding: 'utf8' }).stdout.trim()

/** What the other machine has. */
function machinePath(): string {
  const directory = emptyDirectory('machine')
  const python = spawnSync('python3', ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' })
  symlinkSync(python.stdout.trim(), path.join(directory, 'python3'))
  symlinkSync(process.execPath, path.join(directory, 'node'))
  symlinkSync(which('sh'), path.join(directory, 'sh'))
  return directory
}

describe('a short window, rehearsed on the emulator', () => {
  let clone: string
  let check: RunResult
  let lines: Lines
  beforeAll(async () => {
    const options = ['--prepare', '--prebuilt', '--emulated', '--without-node']
    const packing = await run('python3', ['tools/release/gpu-check', ...options], { cwd: repository })
    if (packing.status !== 0) {
      const log = path.join(repository, 'build/gpu-prepare.log')
      console.error(existsSync(log) ? readFileSync(log, 'utf8').slice(-8000) : '')
    }
    expect(packing.status, packing.stdout + packing.stderr).toBe(0)
    clone = cloneTree()
    shareModules(clone)
    cpSync(path.join(repository, '.gpu-check'), path.join(clone, '.gpu-check'), { recursive: true })
    const counter = compileEnergyCounter(clone)
    const out = emptyDirectory('out')
    const args = ['--prebuilt', '--emulated', '--out', out, '--seconds', '1000', '--nvml', counter]
    check = await run('python3', ['tools/release/gpu-check', ...args], { cwd: clone, PATH: machinePath() })
    const read = (name: string) => readFileSync(path.join(out, name), 'utf8')
    const objects = (name: string) =>
      read(name)
        .trim()
        .split('\n')
        .map(line => JSON.parse(line) as Record<string, unknown>)
    if (check.status !== 0) console.error(check.stdout + check.stderr)
    lines = {
      report: JSON.parse(read('gpu-check.json')),
      numbers: objects('numbers.jsonl'),
      tune: objects('tune.jsonl'),
      energy: objects('energy.jsonl'),
    }
    writeFileSync(path.join(clone, 'tune.jsonl'), read('tune.jsonl'))
  })

  it('passes every phase without a compiler', () => {
    expect(check.status).toBe(0)
    expect(lines.report.prebuilt).toBe('emulated')
    expect(lines.report.phases.build).toBeUndefined()
    expect(lines.report.summary).toBe('conformance, numbers, tune, bench, energy passed; sanitize NOT RUN')
  })

  it('runs each case of sm_90a by itself', () => {
    const cases = lines.report.phases.conformance!.hopper!
    const names = [
      'products',
      'fragments',
      'boxes',
      'gated-boxes',
      'maps',
      'ring',
      'proxy',
      'registers',
      'chain',
      'rates',
      'matmul',
    ]
    expect(cases).toEqual(Object.fromEntries(names.map(name => [name, true])))
  })

  it('compares rows with double precision, and with themselves alone', () => {
    const errors = lines.numbers.filter(row => 'relativeError' in row)
    expect(errors.map(row => row.tokens)).toEqual([1, 64, 64, 64])
    for (const row of errors) expect(row.relativeError).toBeLessThan(row.bound as number)
    expect(lines.numbers.find(row => 'rowAlone' in row)).toMatchObject({
      rowAlone: { batchInvariant: 'same bits' },
    })
  })

  it('times every configuration, the chosen one first, as the fit reads them', async () => {
    const cells = new Map<string, Record<string, unknown>[]>()
    for (const row of lines.tune) {
      const key = `${row.tokens} ${row.matmul}`
      cells.set(key, [...(cells.get(key) ?? []), row])
    }
    expect(cells.size).toBe(4)
    for (const rows of cells.values()) {
      expect(rows.map(row => row.chosen)).toEqual(rows.map((_, index) => index === 0))
      expect(rows.length).toBeGreaterThan(3)
    }
    const fit = await run(
      'node',
      ['node_modules/tsx/dist/cli.mjs', 'bench/gpu/fit-choice.ts', 'tune.jsonl'],
      {
        cwd: clone,
      },
    )
    expect(fit.status, fit.stdout + fit.stderr).toBe(0)
    expect(fit.stdout).toMatch(/^committed: .*\n {2}4 cells/)
  })

  it('reads the energy counter over the window', () => {
    const [idle, ours] = lines.energy
    expect(idle).toMatchObject({ layer: 'idle' })
    expect(ours).toMatchObject({ layer: 'ours', tokens: 1, source: 'nvmlDeviceGetTotalEnergyConsumption' })
    // By its own clock the counter draws 500 W; the two clocks are read one after the other.
    const { joules, forwards, tokens, joulesPerToken, seconds } = ours as Record<string, number>
    expect(seconds).toBeGreaterThanOrEqual(0.05)
    expect(joules).toBeGreaterThanOrEqual(500 * 0.05)
    expect(joulesPerToken! / (joules! / (forwards! * tokens!))).toBeCloseTo(1, 4)
  })
})
