/**
 * Compiles the addon for another platform and runs the suites on it there, under an emulator:
 * `node tools/test/platform.mjs --target linux-arm64|win32-x64 [--quick] [FILES] [options of vitest]`.
 *
 * - `--target linux-arm64`: Debian's cross compiler and qemu-user
 * - `--target win32-x64`: mingw-w64 and Wine
 * - `--quick`: what shows that the addon is found, loads, computes, serves worker threads and lets the process end; what CI runs
 *
 * First `sparse-experts doctor` has to find the stripped addon as a user's machine does, in prebuilds/. Without FILES all suites of `npm test`
 * run, which takes an hour or more.
 */

import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { CROSS, crossBuild } from '../build/cross.mjs'
import { buildPrograms, buildTypeScript, isTypeScriptStale } from '../build/steps.mjs'
import { treeOf } from '../build/tree.mjs'
import { root } from '../repository.mjs'
import { preparePlatform } from './platform-node.mjs'

const QUICK = [
  ...['test/devices/native-load.test.ts', 'test/devices/exit.test.ts', 'test/ops/stages.test.ts'],
  // Of the ways in which a process ends, those with a forward and a worker thread under way: each starts a process.
  '--testNamePattern=^(?!exit )|^exit (running|worker running)$',
]

const rest = process.argv.slice(2)
const at = rest.indexOf('--target')
const [, target] = at >= 0 ? rest.splice(at, 2) : []
if (!CROSS.includes(target)) {
  console.error(`test:platform: --target takes ${CROSS.join(' or ')}, received '${target ?? ''}'`)
  process.exit(2)
}
const quickAt = rest.indexOf('--quick')
const isQuick = quickAt >= 0 && rest.splice(quickAt, 1).length > 0
const isNamed = rest.some(argument => !argument.startsWith('-') && existsSync(path.join(root, argument)))
const suites = isQuick ? QUICK : isNamed ? [] : ['--project=!programs']

// Compiled here: emulated compilers would take most of the time.
if ((isTypeScriptStale() && !buildTypeScript()) || !buildPrograms()) process.exit(1)
const packageDirectory = path.join(treeOf(target), 'package')
const addon = crossBuild('test:platform', target, path.join(packageDirectory, 'prebuilds', target))
const { command, vitest, env, translate } = preparePlatform(target)

function run([program, ...before], script, args, added) {
  const all = [...before, translate(path.join(root, script)), ...args]
  // Into a file: Node under Wine opens neither a pipe nor a socket for its output.
  const output = path.join(treeOf(target), 'output.log')
  const file = openSync(output, 'w')
  const stdio = ['ignore', file, file]
  const { status } = spawnSync(program, all, { cwd: root, stdio, env: { ...env, ...added } })
  closeSync(file)
  process.stdout.write(readFileSync(output))
  return status
}

if (
  run(command, 'dist/cli/main.js', ['doctor'], { SPARSE_EXPERTS_PREBUILD: translate(packageDirectory) }) !== 0
) {
  console.error(`test:platform: the addon does not work on ${target}: see the doctor's report above`)
  process.exit(1)
}
// Time limits are for what hangs; an emulator is ten times slower than a processor.
const options = ['run', '--testTimeout=1200000', '--hookTimeout=1200000', ...suites, ...rest]
const added = { SPARSE_EXPERTS_NATIVE_PATH: translate(addon) }
process.exit(run(vitest, 'node_modules/vitest/vitest.mjs', options, added) ?? 1)
