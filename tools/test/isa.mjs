/**
 * `npm run test:isa`: the operator and golden suites under every instruction set that this processor has besides the one that `npm test`
 * used, and without SIMD; of sets that differ from another by products of int8 activations alone, the suite about those. Ends with
 * "N passed, N failed".
 */

import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { root } from '../repository.mjs'

let cpu
try {
  const doctor = [path.join(root, 'dist/cli/main.js'), 'doctor', '--json']
  cpu = JSON.parse(execFileSync(process.execPath, doctor, { encoding: 'utf8' })).cpu
} catch (error) {
  // A failed check ends the doctor with status 1, and it still prints its report.
  cpu = JSON.parse(error.stdout).cpu
}
/** Those whose other kernels are another set's (csrc/cpu/isa/isa.h). */
const EXTENSIONS = ['avxvnni', 'avx512vnni', 'neondotprod', 'neoni8mm']
const INT8 = 'test/api/int8-activations.test.ts'
const sets = ['scalar', ...(cpu.instructionSets ?? [])].filter(set => set !== cpu.instructionSet)

const reports = path.join(root, 'build/reports')
mkdirSync(reports, { recursive: true })
let passed = 0
let failed = 0
for (const set of sets) {
  console.log(`\n${set}`)
  const report = path.join(reports, `isa-${set}.json`)
  const vitest = path.join(root, 'node_modules/vitest/vitest.mjs')
  const whole = ['test/ops/layer', 'test/ops/bitwise.test.ts', 'test/ops/stages.test.ts', 'test/golden', INT8]
  const suites = EXTENSIONS.includes(set) ? [INT8] : whole
  const output = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
  const { status } = spawnSync(process.execPath, [vitest, 'run', ...suites, ...output], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, SPARSE_EXPERTS_CPU_ISA: set },
  })
  const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(report, 'utf8'))
  passed += numPassedTests
  failed += Math.max(numFailedTests, status === 0 ? 0 : 1)
}
console.log(`\n${passed} passed, ${failed} failed`)
process.exit(failed === 0 && passed > 0 ? 0 : 1)
