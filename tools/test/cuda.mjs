/**
 * `npm run test:cuda [-- --flavour plain|address|race] [--schedule forward|reverse|random|skewed] [--seed N] [--capability 90] [suites and options of
 * vitest] [--shard I/N]`: the suites through the TypeScript API on an emulated GPU, no GPU needed.
 *
 * Without named suites: all that use a device in the plain flavour under the forward schedule, the case table otherwise.
 */

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import {
  buildEmulator,
  checkEmulatorOptions,
  EMULATOR_OPTIONS,
  emulatorEnvironment,
} from '../build/emulator-flavours.mjs'
import { treeOf } from '../build/tree.mjs'
import { root } from '../repository.mjs'
import { addressSanitizerRuntime, printReports } from './sanitizers.mjs'

const device = name => `test/devices/${name}.test.ts`
/** Every kernel through every family, size and load, and what is promised of a GPU alone: what the slow flavours run. */
const CASE_TABLE = [
  'test/ops',
  ...['batches', 'cuda-cache', 'failures', 'graphs', 'memory', 'tensors', 'workers'].map(device),
]
/** What the addon promises of any native device: hostile arguments, loading, queue, lifetime, exit. */
const NATIVE = ['arguments', 'load', 'queue', 'lifetime', 'exit'].map(device)
const ALL = [
  ...CASE_TABLE,
  device('cuda-simulate'),
  'test/golden/cached.test.ts',
  'test/golden/devices.test.ts',
  'test/golden/rounding.test.ts',
  'test/golden/stored.test.ts',
  'test/api',
  'test/tiny/golden.test.ts',
  ...NATIVE,
]

const OPTIONS = { ...EMULATOR_OPTIONS, shard: { type: 'string' } }
const { values, tokens } = parseArgs({ options: OPTIONS, strict: false, tokens: true })
checkEmulatorOptions('test:cuda', values)
const { flavour, schedule } = values
const own = new Set()
for (const token of tokens) {
  if (token.kind !== 'option' || !(token.name in OPTIONS)) continue
  own.add(token.index)
  if (!token.inlineValue) own.add(token.index + 1)
}
const rest = process.argv.slice(2).filter((_, index) => !own.has(index))
const named = rest.some(argument => !argument.startsWith('-') && existsSync(path.join(root, argument)))
const heavy = flavour !== 'plain' || (schedule ?? 'forward') !== 'forward'
const suites = named ? [] : (heavy ? CASE_TABLE : ALL).filter(suite => existsSync(path.join(root, suite)))

const { tree, library } = buildEmulator(flavour, ['sparse_experts_cuda'])
const env = {
  SPARSE_EXPERTS_TEST_DEVICES: 'cuda:0',
  ...process.env,
  ...emulatorEnvironment(values, tree),
  SPARSE_EXPERTS_CUDA_LIBRARY: library,
  SPARSE_EXPERTS_EMULATED: flavour,
  ...(values.shard && { SE_TEST_SHARD: values.shard }),
}
if (flavour === 'address') {
  // The addon hands memory to the backend: it is instrumented as well.
  const build = [path.join(root, 'tools/build/native.mjs'), '--sanitize', 'address']
  if (spawnSync(process.execPath, build, { cwd: root, stdio: 'inherit' }).status !== 0) process.exit(1)
  env.SPARSE_EXPERTS_NATIVE_PATH = path.join(treeOf('address'), 'Release/sparse_experts.node')
  env.SPARSE_EXPERTS_SANITIZED = 'address'
  env.LD_PRELOAD = addressSanitizerRuntime('test:cuda')
}

console.log(
  `test:cuda: ${flavour} flavour, ${schedule ?? 'forward'} schedule, ${named ? 'named suites' : suites.join(' ')}`,
)
const vitest = path.join(root, 'node_modules/vitest/vitest.mjs')
const { status } = spawnSync(process.execPath, [vitest, 'run', '--testTimeout=600000', ...suites, ...rest], {
  cwd: root,
  stdio: 'inherit',
  env,
})
const reports = flavour === 'address' ? printReports(path.join(tree, 'reports')) : 0
process.exit(reports === 0 ? (status ?? 1) : 1)
