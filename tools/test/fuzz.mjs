/**
 * `npm run test:fuzz [-- --seconds 60] [-- --runs N]`: libFuzzer with AddressSanitizer and UndefinedBehaviorSanitizer on the native decoders,
 * for so long, or for so many inputs where those are sooner.
 */

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { buildPreset } from '../build/tree.mjs'
import { root } from '../repository.mjs'

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '60' }, runs: { type: 'string', default: '-1' } },
})
const versions = ['-14', '', '-16', '-19']
const suffix = versions.find(
  name => spawnSync(`clang++${name}`, ['--version'], { stdio: 'ignore' }).status === 0,
)
if (suffix === undefined) {
  console.error("fuzz: needs clang (Debian: 'apt-get install clang-14 libclang-rt-14-dev')")
  process.exit(1)
}

const tree = buildPreset('fuzz', ['decode_fuzz'], { definitions: { CMAKE_CXX_COMPILER: `clang++${suffix}` } })
const corpus = path.join(tree, 'corpus')
mkdirSync(corpus, { recursive: true })
const seeds = path.join(root, 'test/native/decode_fuzz_corpus')
const { status } = spawnSync(
  path.join(tree, 'decode_fuzz'),
  [
    `-max_total_time=${values.seconds}`,
    `-runs=${values.runs}`,
    '-max_len=65536',
    '-timeout=10',
    '-rss_limit_mb=2048',
    '-print_final_stats=1',
    '-verbosity=0',
    `-artifact_prefix=${tree}/`,
    corpus,
    ...(existsSync(seeds) ? [seeds] : []),
  ],
  { cwd: root, stdio: 'inherit' },
)
process.exit(status ?? 1)
