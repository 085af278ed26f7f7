/** Compiler launcher of `build:cuda`: runs nvcc with ptxas's report of resources on, and leaves that beside the object as X.o.ptxas. */

import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'

const [compiler, ...args] = process.argv.slice(2)
const object = args[args.indexOf('-o') + 1]
const isCompile = args.includes('-c') && object?.endsWith('.o')
const { status, stdout, stderr, error } = spawnSync(compiler, isCompile ? ['-Xptxas=-v', ...args] : args, {
  encoding: 'utf8',
  maxBuffer: 1 << 28,
})
if (error) throw error
process.stdout.write(stdout)
// What is no report of resources is for the person who builds.
const REPORT = /^(ptxas info\b|\s+\d+ bytes stack frame)/
const [report, messages] = [[], []]
for (const line of stderr.split('\n')) (REPORT.test(line) ? report : messages).push(line)
process.stderr.write(messages.join('\n'))
if (isCompile && status === 0) writeFileSync(`${object}.ptxas`, report.join('\n'))
process.exit(status ?? 1)
