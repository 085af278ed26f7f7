/**
 * `npm run check:cpp [-- --quick] [--shard I/N] [FILES]`: clang-tidy over the native sources, kernels among them, as the emulated
 * configuration compiles them. A source that was clean is not checked again until what the compiler sees of it changes. --quick leaves out
 * the analyzer of paths, which takes more than half of the time: what CI runs, beside the sanitizers. --shard takes every Nth source, the Ith first.
 */

import { spawn, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { configure, treeOf } from '../build/tree.mjs'
import { root } from '../repository.mjs'
import { tidyCache } from './tidy-cache.mjs'

const { values, positionals } = parseArgs({
  options: { quick: { type: 'boolean' }, shard: { type: 'string' } },
  allowPositionals: true,
})
const quick = values.quick ? ['--checks=-clang-analyzer-*'] : []
const named = positionals.map(file => path.resolve(root, file))
const [part, parts] = (values.shard ?? '1/1').split('/').map(Number)
if (!(Number.isInteger(part) && Number.isInteger(parts) && part >= 1 && part <= parts)) {
  console.error(`check:cpp: --shard takes I/N with I from 1 to N, received '${values.shard}'`)
  process.exit(2)
}

const candidates = [process.env.CLANG_TIDY, 'clang-tidy-14', 'clang-tidy', 'clang-tidy-16', 'clang-tidy-19']
const clangTidy = candidates.find(
  name => name && spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0,
)
if (!clangTidy) {
  console.error("check:cpp: clang-tidy is not installed (Debian: 'apt-get install clang-tidy-14')")
  process.exit(1)
}

/**
 * Planted defects; the race detector, which has a sanitizer's reserved names and a configuration of its own; tests of kernels, which take as
 * long as all the rest.
 */
const UNCHECKED = /^(emulator\/(test\/|src\/race)|test\/(cuda|conformance)\/)/

if (!configure('tidy')) process.exit(1)
const buildDirectory = treeOf('tidy')
const database = path.join(buildDirectory, 'compile_commands.json')
/** Source → the commands that compile it, one per target. */
const commands = new Map()
for (const entry of JSON.parse(readFileSync(database, 'utf8'))) {
  const file = path.resolve(entry.directory, entry.file)
  commands.set(file, [...(commands.get(file) ?? []), entry])
}
const sources = [...commands.keys()]
  .filter(file => !path.relative(root, file).startsWith('..') && !file.includes('node_modules'))
  .filter(file => !UNCHECKED.test(path.relative(root, file)))
  .filter(file => named.length === 0 || named.includes(file))
  .sort()
  .filter((_, index) => index % parts === part - 1)
if (sources.length === 0) {
  console.error('check:cpp: compile_commands.json names no such source')
  process.exit(1)
}

const cache = tidyCache(clangTidy, quick)
let known = 0
let failures = 0
async function work() {
  for (let file = sources.pop(); file; file = sources.pop()) {
    const key = await cache.keyOf(file, commands.get(file))
    if (cache.isClean(key)) {
      known++
      continue
    }
    const child = spawn(clangTidy, ['--quiet', ...quick, '-p', buildDirectory, file], { cwd: root })
    let output = ''
    child.stdout.on('data', data => {
      output += data
    })
    let errors = ''
    child.stderr.on('data', data => {
      errors += data
    })
    const status = await new Promise(resolve => child.on('close', resolve))
    if (status === 0) cache.keepClean(key)
    else {
      failures++
      console.error(
        `${path.relative(root, file)}\n${output}${errors.replace(/^\d+ warnings? generated\.$/gm, '').trim()}\n`,
      )
    }
  }
}
const count = sources.length
await Promise.all(Array.from({ length: os.availableParallelism() }, work))
console.log(`clang-tidy: ${count - failures} of ${count} sources clean, ${known} as they were before`)
process.exit(failures === 0 ? 0 : 1)
