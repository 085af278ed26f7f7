/**
 * `npm run test:emulator [-- --flavour plain|address|race] [--schedule NAME] [--capability 90] [--filter SUITE] [--shard I/N]`: the emulator's
 * self-test with its planted defects, the kernels' suites or part I of their cases, and the PTX conformance cases. Ends with "N passed, M failed".
 *
 * Without --schedule the plain flavour runs the suites under every one, the others under one each: what they look for (memory out of
 * bounds, accesses that nothing orders) does not depend on which thread happens to come first.
 */

import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { parseArgs } from 'node:util'
import {
  buildEmulator,
  checkEmulatorOptions,
  EMULATOR_OPTIONS,
  emulatorEnvironment,
} from '../build/emulator-flavours.mjs'
import { root } from '../repository.mjs'
import { printReports } from './sanitizers.mjs'

const { values } = parseArgs({
  options: { ...EMULATOR_OPTIONS, filter: { type: 'string' }, shard: { type: 'string' } },
})
checkEmulatorOptions('test:emulator', values)
const { flavour, seed, filter, shard } = values
const ONE_SCHEDULE = { address: 'reverse', race: 'skewed' }
const schedule = values.schedule ?? ONE_SCHEDULE[flavour]

const programs = filter ? ['cuda_tests'] : ['emulator_tests', 'cuda_tests', 'conformance', 'conformance90']
const { tree } = buildEmulator(flavour, programs)
const ARGUMENTS = {
  emulator_tests: [],
  cuda_tests: [
    ...(filter ? ['--filter', filter] : []),
    ...(shard ? ['--shard', shard] : []),
    ...(schedule ? ['--schedule', seed ? `${schedule}:${seed}` : schedule] : []),
  ],
  conformance: ['--check', path.join(root, 'test/conformance/golden')],
  conformance90: [],
}
const PLACE = { emulator_tests: 'emulator', cuda_tests: '.', conformance: '.', conformance90: '.' }

const env = { ...process.env, ...emulatorEnvironment({ flavour, capability: values.capability }, tree) }
// A planted defect's block is thrown away with what its threads hold.
const noLeaks = { ASAN_OPTIONS: `${env.ASAN_OPTIONS ?? ''}:detect_leaks=0` }
let passed = 0
let failed = 0
for (const program of programs) {
  console.log(`\n${program}, ${flavour}`)
  const began = Date.now()
  const { status, signal, stdout } = spawnSync(path.join(tree, PLACE[program], program), ARGUMENTS[program], {
    cwd: root,
    env: program === 'emulator_tests' ? { ...env, ...noLeaks } : env,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 1 << 28,
  })
  process.stdout.write(stdout ?? '')
  const [, good = '0', bad = '0'] = [...(stdout ?? '').matchAll(/(\d+) passed, (\d+) failed/g)].at(-1) ?? []
  // A program that ends badly without a failed test, or that tests nothing, is one failure.
  const broken = bad === '0' && (status !== 0 || good === '0') ? 1 : 0
  if (broken) console.error(`${program} ended with ${signal ?? `status ${status}`}`)
  passed += Number(good)
  failed += Number(bad) + broken
  console.log(`${program}: ${Math.round((Date.now() - began) / 1000)} s`)
}
if (flavour === 'address') failed += printReports(path.join(tree, 'reports'))
console.log(`\n${passed} passed, ${failed} failed`)
process.exit(failed === 0 && passed > 0 ? 0 : 1)
