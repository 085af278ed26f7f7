/** What tools/release/gpu-check says about phases that could not run: they are neither successes nor failures, and the last lines name them. */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const script = fileURLToPath(new URL('../../tools/release/gpu-check', import.meta.url))
const directory = mkdtempSync(path.join(os.tmpdir(), 'sparse-experts-gpu-check-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

interface Report {
  said: string
  phases: Record<string, { ok: boolean | null; notRun?: string; summary?: string }>
  summary: string
}
interface Case {
  emulated: boolean
  body: string
}

const CASES: Record<string, Case> = {
  'without compute-sanitizer': { emulated: false, body: 'check.sanitize()' },
  'on the emulator': { emulated: true, body: 'check.sanitize()' },
  all: {
    emulated: false,
    body: `
check.record("build", time.monotonic(), ok=True)
check.record("test", time.monotonic(), ok=False, summary="1 of 2")
check.sanitize()`,
  },
}

/** The script as a module, on a machine without any tool, with the phases of each case; prints whether the check failed. */
function reports(): Record<string, Report> {
  const outOf = (name: string) => path.join(directory, name)
  const END = '--- end of a case ---'
  const run = ([name, { emulated, body }]: [string, Case]) => `
check = module.Check(argparse.Namespace(out=${JSON.stringify(outOf(name))}, seconds=10, emulated=${emulated ? 'True' : 'False'}))
${body}
check.summarise()
print("failed:", check.failed)
print(${JSON.stringify(END)})`
  const program = `
import argparse, importlib.machinery, importlib.util, sys, time
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("gpu_check", ${JSON.stringify(script)})
module = importlib.util.module_from_spec(importlib.util.spec_from_loader("gpu_check", loader))
loader.exec_module(module)
module.shutil.which = lambda *_, **__: None
${Object.entries(CASES).map(run).join('\n')}`
  const { status, stdout, stderr } = spawnSync('python3', ['-c', program], { encoding: 'utf8' })
  expect(status, stderr).toBe(0)
  const said = stdout.split(`${END}\n`)
  return Object.fromEntries(
    Object.keys(CASES).map((name, i) => [
      name,
      { said: said[i], ...JSON.parse(readFileSync(path.join(outOf(name), 'gpu-check.json'), 'utf8')) },
    ]),
  )
}

const hasPython = spawnSync('python3', ['--version']).status === 0

describe.skipIf(!hasPython)('tools/release/gpu-check', () => {
  let byName: Record<string, Report>
  beforeAll(() => {
    byName = reports()
  })

  it.each([
    ['without compute-sanitizer', /compute-sanitizer is not installed/],
    ['on the emulator', /emulator has detectors of its own/],
  ])('%s: sanitize did not run, and is no success', (name, reason) => {
    const { said, phases, summary } = byName[name]!
    expect(phases.sanitize).toMatchObject({ ok: null, notRun: expect.stringMatching(reason) })
    expect(summary).toBe('sanitize NOT RUN')
    expect(said).toMatch(/sanitize: NOT RUN: /)
    expect(said).not.toMatch(/sanitize: ok/)
    expect(said).toMatch(/failed: False/)
  })

  it('names what passed, failed and did not run', () => {
    const { said, phases, summary } = byName.all!
    expect(phases.test).toMatchObject({ ok: false, summary: '1 of 2' })
    expect(summary).toBe('build passed; test FAILED; sanitize NOT RUN')
    expect(said).toMatch(/gpu-check: build passed; test FAILED; sanitize NOT RUN\nfailed: True/)
  })
})
