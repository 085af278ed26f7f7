/**
 * `npm run test:repeat [-- --times 20] [suites]`: runs suites again and again beside a process that keeps one core busy, and counts the runs
 * that fail. Without suites: those that look at the event loop, at memory, at aborts and at processes that end.
 */

import { spawn, spawnSync } from 'node:child_process'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { root } from '../repository.mjs'

const SUITES = [
  'test/api',
  'test/bench/busy-loop.test.ts',
  'test/cli/run.test.ts',
  ...['exit', 'lifetime', 'load', 'queue'].map(name => `test/devices/${name}.test.ts`),
  'test/examples/http-server.test.ts',
  'test/tiny/energy.test.ts',
  ...['plan', 'reference-runtime', 'safetensors'].map(name => `test/unit/${name}.test.ts`),
]

const { values, positionals } = parseArgs({
  options: { times: { type: 'string', default: '20' } },
  allowPositionals: true,
})
const times = Number(values.times)
if (!Number.isInteger(times) || times < 1) throw new Error(`--times ${values.times} is not a number of runs`)

const busy = spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' })
const vitest = path.join(root, 'node_modules/vitest/vitest.mjs')
const command = [vitest, 'run', '--reporter=dot', ...positionals]
if (positionals.length === 0) command.push(...SUITES)
let failed = 0
try {
  for (let run = 1; run <= times; run++) {
    const began = performance.now()
    const { status, stdout, stderr } = spawnSync(process.execPath, command, {
      cwd: root,
      encoding: 'utf8',
      env: { ...process.env, NO_COLOR: '1' },
      maxBuffer: 1 << 26,
    })
    const seconds = ((performance.now() - began) / 1000).toFixed(0)
    console.log(`run ${run} of ${times}: ${status === 0 ? 'green' : 'RED'} after ${seconds} s`)
    if (status === 0) continue
    failed++
    console.log(`${stdout}\n${stderr}`)
  }
} finally {
  busy.kill('SIGKILL')
}
console.log(`${times - failed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
