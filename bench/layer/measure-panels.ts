/**
 * `npm run bench:panels [-- KIND [--isa NAME]]`: products of packed panels alone, on one thread, from cache and from memory, for each number
 * of rows: what the kernels do where nothing but them takes time. KIND is a part of a kind's name (test/oracle/quantised.cc), such as `q8_0`;
 * without it every kind is measured, some minutes on each instruction set of the machine.
 */

import { execFileSync, spawnSync } from 'node:child_process'
import path from 'node:path'
import { parseArgs } from 'node:util'

const BUILD_SCRIPT = path.join(import.meta.dirname, '../../tools/build/native-tests.mjs')

const { values, positionals } = parseArgs({
  options: { isa: { type: 'string', multiple: true } },
  allowPositionals: true,
})
const printed = execFileSync(process.execPath, [BUILD_SCRIPT], {
  encoding: 'utf8',
  stdio: ['ignore', 'pipe', 'inherit'],
})
const program = printed.trimEnd().split('\n').at(-1) as string
const sets = (values.isa ?? []).flatMap(isa => ['--isa', isa])
const { status } = spawnSync(program, ['--bench-panels', positionals[0] ?? '', ...sets], { stdio: 'inherit' })
process.exit(status ?? 1)
