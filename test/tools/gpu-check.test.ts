/**
 * What tools/release/gpu-check says about phases that could not run: they are neither successes nor failures, and the last lines name them. What was
 * measured before a program ends badly or out of time is kept.
 */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const folder = fileURLToPath(new URL('../../tools/release', import.meta.url))
const directory = mkdtempSync(path.join(os.tmpdir(), 'sparse-experts-gpu-check-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

interface Report {
  said: string
  phases: Record<
    string,
    { ok: boolean | null; notRun?: string; summary?: string; status?: number; figures?: unknown[] }
  >
  summary: string
}
interface Case {
  emulated: boolean
  body: string
}

const CASES: Record<string, Case> = {
  'without compute-sanitizer': { emulated: false, body: 'correctness.sanitize(check)' },
  'on the emulator': { emulated: true, body: 'correctness.sanitize(check)' },
  all: {
    emulated: false,
    body: `
check.record("build", time.monotonic(), ok=True)
check.record("test", time.monotonic(), ok=False, summary="1 of 2")
correctness.sanitize(check)`,
  },
  'a program that ends badly': {
    emulated: true,
    body: `
status = check.run("figures", [sys.executable, "-c", WRITES + "; sys.exit(7)"], 60, results="figures.jsonl")
check.record("bench", time.monotonic(), ok=status == 0, status=status, figures=check.objects("figures.jsonl"))`,
  },
  'a program that never ends': {
    emulated: true,
    body: `
def after_the_first(at_most=0):
    while not check.objects("figures.jsonl"):
        time.sleep(0.01)
    return 0.1
check.left = after_the_first
status = check.run("figures", [sys.executable, "-c", WRITES + "; time.sleep(1000)"], 5, results="figures.jsonl")
check.record("bench", time.monotonic(), ok=status == 0, status=status, figures=check.objects("figures.jsonl"))`,
  },
  'a phase that raises': {
    emulated: true,
    body: `
def broken(check):
    raise ValueError("a mistake")
entry.run_phases(check, {"bench": broken, "sanitize": correctness.sanitize}, ["bench", "sanitize"])`,
  },
}

/** The script as a module, on a machine without any tool, with the phases of each case; prints whether the check failed. */
function reports(): Record<string, Report> {
  const outOf = (name: string) => path.join(directory, name)
  const END = '--- end of a case ---'
  const run = ([name, { emulated, body }]: [string, Case]) => `
check = Check(argparse.Namespace(out=${JSON.stringify(outOf(name))}, seconds=60, emulated=${emulated ? 'True' : 'False'}, prebuilt=False, filter=None))
${body}
check.summarise()
print("failed:", check.failed)
print(${JSON.stringify(END)})`
  const program = `
import argparse, importlib.machinery, importlib.util, sys, time
sys.dont_write_bytecode = True
sys.path.insert(0, ${JSON.stringify(folder)})
from gpu_check import correctness
from gpu_check.check import Check
loader = importlib.machinery.SourceFileLoader("entry", ${JSON.stringify(path.join(folder, 'gpu-check'))})
entry = importlib.util.module_from_spec(importlib.util.spec_from_loader("entry", loader))
loader.exec_module(entry)
correctness.shutil.which = lambda *_, **__: None
# An object, and half of the next.
WRITES = """import sys, time; print('{"us": 1}'); print('{"us', end='', flush=True)"""
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

  it.each([
    ['a program that ends badly', 7],
    ['a program that never ends', 124],
  ])('%s: what it printed is kept', (name, status) => {
    expect(byName[name]!.phases.bench).toMatchObject({ ok: false, status, figures: [{ us: 1 }] })
  })

  it('goes on after a phase that raises', () => {
    const { phases, said } = byName['a phase that raises']!
    expect(phases.bench).toMatchObject({ ok: false, summary: 'ValueError: a mistake' })
    expect(phases.sanitize).toMatchObject({ ok: null })
    expect(said).toMatch(/failed: True/)
  })
})
