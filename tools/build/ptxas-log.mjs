#!/usr/bin/env node
/**
 * Compiler launcher of `build:cuda`: runs nvcc, and leaves in the object what it said of each kernel, for tools/check/kernels.mjs. The
 * linker drops these sections, so the object is the one that ships and its census is the one of that very compile.
 *
 *   .se_ptxas   ptxas's report of registers, stack and shared memory for every architecture
 *   .se_ptx     the PTX of the oldest architecture
 *   .se_code    the machine code of every architecture: JSON, architecture → cubin, gzipped and in base64
 *
 * With ccache as the launcher of C++ (CMAKE_CXX_COMPILER_LAUNCHER) nvcc runs under ccache too: ccache calls this file back for the real
 * compile (CCACHE_PREFIX), so that a cached object has the sections as well.
 */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

const self = fileURLToPath(import.meta.url)
const [compiler, ...args] = process.argv.slice(2)
const object = args[args.indexOf('-o') + 1]
const isCompile = args.includes('-c') && object?.endsWith('.o')
const cache = process.env.CMAKE_CXX_COMPILER_LAUNCHER
const isCalledBack = process.env.SE_PTXAS_LOG === '1'

function run(command, commandArgs, env = process.env) {
  const result = spawnSync(command, commandArgs, { encoding: 'utf8', maxBuffer: 1 << 28, env })
  if (result.error) throw result.error
  return result
}

function finish({ status, stdout, stderr }) {
  process.stdout.write(stdout)
  process.stderr.write(stderr)
  process.exit(status ?? 1)
}

if (!isCompile) finish(run(compiler, args))
if (!isCalledBack && path.basename(cache ?? '') === 'ccache') {
  const env = { ...process.env, CCACHE_PREFIX: self, CCACHE_EXTRAFILES: self, SE_PTXAS_LOG: '1' }
  finish(run(cache, [compiler, ...args], env))
}

const keep = mkdtempSync(path.join(tmpdir(), 'ptxas-log-'))
process.on('exit', () => rmSync(keep, { recursive: true, force: true }))
const result = run(compiler, ['-Xptxas=-v', '--keep', '--keep-dir', keep, ...args])
// What is no report of resources is for the person who builds.
const REPORT = /^(ptxas info\b|\s+\d+ bytes stack frame)/
const [report, messages] = [[], []]
for (const line of result.stderr.split('\n')) (REPORT.test(line) ? report : messages).push(line)
if (result.status === 0) {
  // Compiled for one architecture alone, the file has no architecture in its name.
  const architecture = name => Number(/\.compute_(\d+)\w*\.ptx$/.exec(name)?.[1] ?? 0)
  const ptx = readdirSync(keep).filter(name => name.endsWith('.ptx'))
  const [oldest] = ptx.sort((a, b) => architecture(a) - architecture(b))
  const code = {}
  for (const name of readdirSync(keep)) {
    const found = /(?:sm|compute)_(\d+)a?\.cubin$/.exec(name)
    if (found) code[found[1]] = gzipSync(readFileSync(path.join(keep, name))).toString('base64')
  }
  const sections = {
    se_ptxas: report.join('\n'),
    se_ptx: readFileSync(path.join(keep, oldest), 'utf8'),
    se_code: JSON.stringify(code),
  }
  const flags = Object.entries(sections).flatMap(([name, text]) => {
    const file = path.join(keep, name)
    writeFileSync(file, text)
    return ['--add-section', `.${name}=${file}`, '--set-section-flags', `.${name}=readonly,exclude`]
  })
  const added = run('objcopy', [...flags, object])
  if (added.status !== 0) messages.push(`ptxas-log: no census in ${object}: ${added.stderr}`)
}
finish({ ...result, stderr: messages.join('\n') })
