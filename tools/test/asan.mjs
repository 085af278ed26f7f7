/**
 * `npm run test:asan`: builds the addon with AddressSanitizer and UndefinedBehaviorSanitizer and runs the suites on it.
 * `--shard I/N` runs part I of the tests (test/helpers/shard.ts); further arguments go to vitest. Buffers of some suites are stolen at random
 * moments (test/helpers/steal-buffers.ts), which SE_TEST_STEAL=SEED repeats. Tests about time or memory figures may skip
 * themselves where SPARSE_EXPERTS_SANITIZED is set.
 */

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { treeOf } from '../build/tree.mjs'
import { root } from '../repository.mjs'
import { addressSanitizerRuntime, printReports, sanitizerEnvironment } from './sanitizers.mjs'

const build = [path.join(root, 'tools/build/native.mjs'), '--sanitize', 'address']
if (spawnSync(process.execPath, build, { cwd: root, stdio: 'inherit' }).status !== 0) process.exit(1)
const tree = treeOf('address')

/** All that reaches the addon. Other suites look at the reference, at examples and at the command line over the same native code. */
const SUITES = [
  ...['test/api', 'test/devices', 'test/ops', 'test/golden/devices.test.ts', 'test/tiny/golden.test.ts'],
  ...['plan', 'decode-native'].map(name => `test/unit/${name}.test.ts`),
]
const rest = process.argv.slice(2)
const at = rest.indexOf('--shard')
const shard = at >= 0 ? rest.splice(at, 2)[1] : undefined
const named = rest.some(argument => !argument.startsWith('-') && existsSync(path.join(root, argument)))
const seed = process.env.SE_TEST_STEAL ?? String(Math.floor(Math.random() * 2 ** 31))
console.log(`test:asan: SE_TEST_STEAL=${seed}`)
const reports = path.join(tree, 'reports')
const vitest = path.join(root, 'node_modules/vitest/vitest.mjs')
const { status } = spawnSync(
  process.execPath,
  [vitest, 'run', '--testTimeout=600000', ...(named ? [] : SUITES), ...rest],
  {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...process.env,
      ...sanitizerEnvironment(reports),
      LD_PRELOAD: addressSanitizerRuntime('test:asan'),
      SPARSE_EXPERTS_NATIVE_PATH: path.join(tree, 'Release/sparse_experts.node'),
      SPARSE_EXPERTS_SANITIZED: 'address',
      SE_TEST_STEAL: seed,
      ...(shard && { SE_TEST_SHARD: shard }),
    },
  },
)
process.exit(printReports(reports) === 0 ? (status ?? 1) : 1)
