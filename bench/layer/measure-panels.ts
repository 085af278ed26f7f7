/**
 * `npm run bench:panels [-- KIND [--isa NAME]]`: products of packed panels alone, on one thread, from cache and from memory, for each number
 * of rows: what the kernels do where nothing but them takes time. KIND is a part of a kind's name (test/oracle/quantised.cc), such as `q8_0`;
 * without it every kind is measured, some minutes on each instruction set of the machine.
 */

import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { buildProgram } from '../harness/native-program.js'

const { values, positionals } = parseArgs({
  options: { isa: { type: 'string', multiple: true } },
  allowPositionals: true,
})
const sets = (values.isa ?? []).flatMap(isa => ['--isa', isa])
const args = ['--bench-panels', positionals[0] ?? '', ...sets]
const { status } = spawnSync(buildProgram('native_tests'), args, { stdio: 'inherit' })
process.exit(status ?? 1)
