/** What tools/release/gpu-check says about phases that could not run: they are neither successes nor failures, and the last lines name them. */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'

const script = fileURLToPath(new URL('../../tools/release/gpu-check', import.meta.url))
const directory = mkdtempSync(path.join(os.tmpdir(), 'sparse-experts-gpu-check-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** The script as a module, on a machine without any tool, with the phases of `body`; prints whether the check failed. */
function report(name: string, emulated: boolean, body: string) {
  const out = path.join(directory, name)
  const program = `
import argparse, importlib.machinery, importlib.util, sys, time
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("gpu_check", ${JSON.stringify(script)})
module = importlib.util.module_from_spec(importlib.util.spec_from_loader("gpu_check", loader))
loader.exec_module(module)
module.shutil.which = lambda *_, **__: None
check = module.Check(argparse.Namespace(out=${JSON.stringify(out)}, seconds=10, emulated=${emulated ? 'True' : 'False'}))
${body}
check.summarise()
print("failed:", check.failed)`
  const { status, stdout, stderr } = spawnSync('python3', ['-c', program], { encoding: 'utf8' })
  expect(status, stderr).toBe(0)
  return { said: stdout, ...JSON.parse(readFileSync(path.join(out, 'gpu-check.json'), 'utf8')) }
}

const hasPython = spawnSync('python3', ['--version']).status === 0

describe.skipIf(!hasPython)('tools/release/gpu-check', () => {
  it.each([
    ['without compute-sanitizer', false, /compute-sanitizer is not installed/],
    ['on the emulator', true, /emulator has detectors of its own/],
  ])('%s: sanitize did not run, and is no success', (name, emulated, reason) => {
    const { said, phases, summary } = report(name, emulated, 'check.sanitize()')
    expect(phases.sanitize).toMatchObject({ ok: null, notRun: expect.stringMatching(reason) })
    expect(summary).toBe('sanitize NOT RUN')
    expect(said).toMatch(/sanitize: NOT RUN: /)
    expect(said).not.toMatch(/sanitize: ok/)
    expect(said).toMatch(/failed: False/)
  })

  it('names what passed, failed and did not run', () => {
    const body = `
check.record("build", time.monotonic(), ok=True)
check.record("test", time.monotonic(), ok=False, summary="1 of 2")
check.sanitize()`
    const { said, phases, summary } = report('all', false, body)
    expect(phases.test).toMatchObject({ ok: false, summary: '1 of 2' })
    expect(summary).toBe('build passed; test FAILED; sanitize NOT RUN')
    expect(said).toMatch(/gpu-check: build passed; test FAILED; sanitize NOT RUN\nfailed: True/)
  })
})
