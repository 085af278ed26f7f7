/**
 * `npm run check:kernels [-- --write]`: compiles every kernel for every architecture (as `build:cuda` does) and gates what came out.
 *
 * - fails on any spill, stack frame or local memory access, on a kernel that lacks its instructions, and on an (architecture, op, dtype)
 *   that the library advertises without a kernel for it
 * - compares registers, shared memory, occupancy and the instruction census with docs/performance/kernels.json, and fails where they got
 *   worse or moved beyond the tolerances below; `--write` replaces that file and kernels.md
 */

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { root } from '../repository.mjs'
import { checkManifest } from './kernel-manifest.mjs'
import { kernelTable } from './kernel-table.mjs'

/** Where a figure may stray from the committed one without being said to have changed: compilers are not exact. */
const TOLERANCE = { registers: 2, instructionShare: 0.02 }

/** Limits per multiprocessor, from the tables of the CUDA programming guide. Registers are handed out per warp in units of 256. */
const MULTIPROCESSOR = {
  80: { warps: 64, blocks: 32, sharedKiB: 164 },
  86: { warps: 48, blocks: 16, sharedKiB: 100 },
  89: { warps: 48, blocks: 24, sharedKiB: 100 },
  90: { warps: 64, blocks: 32, sharedKiB: 228 },
  100: { warps: 64, blocks: 32, sharedKiB: 228 },
  120: { warps: 48, blocks: 24, sharedKiB: 100 },
}
const REGISTERS_PER_MULTIPROCESSOR = 65536
const RESERVED_SHARED_BYTES = 1024 // per block

/** What must stand in a kernel's PTX, by its name: [pattern of the name, instruction, at least]. */
const LEAST_INSTRUCTIONS = [
  [/^half_expert_matmul/, 'mma', 8],
  [/^half_expert_matmul/, 'ldmatrix', 8],
  [/_expert_matmul/, 'cp.async', 2],
  [/^f32_expert_matmul/, 'fma', 64],
]

/** Instructions of the census: name → pattern of a PTX line. */
const CENSUS = {
  mma: /^mma\.sync/,
  ldmatrix: /^ldmatrix\./,
  'cp.async': /^cp\.async\.c[ag]/,
  'bar.sync': /^bar(rier)?\.(cta\.)?(sync|red)/,
  shfl: /^shfl\.sync/,
  vote: /^(vote|match|redux)\.(sync|any|all)/,
  atom: /^(atom|red)\./,
  fma: /^fma\.rn\.f32/,
  'ld.global': /^ld\.global/,
  'st.global': /^st\.global/,
  'ld.shared': /^ld\.shared/,
  'st.shared': /^st\.shared/,
  local: /^(ld|st)\.local/,
}

const { values } = parseArgs({ options: { write: { type: 'boolean', default: false } } })
const run = (command, args) =>
  execFileSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28, cwd: root })
const began = Date.now()
const fail = text => {
  console.error(`check:kernels: ${text}`)
  process.exit(1)
}

// ---- compile ----------------------------------------------------------------------------------------------------------------------

// Not beside the addon, which would open it: this is a check, and other suites may be running.
const builder = [path.join(root, 'tools/build/cuda.mjs'), '--directory', 'build/cuda/Release']
if (spawnSync(process.execPath, builder, { cwd: root, stdio: 'inherit' }).status !== 0) process.exit(1)
const compileSeconds = Math.round((Date.now() - began) / 1000)

const cmake = readFileSync(path.join(root, 'cmake/cuda_backend.cmake'), 'utf8')
const units = [...cmake.matchAll(/^\s*(csrc\/cuda\/[\w/]+\.cu)\)?$/gm)].map(([, file]) => file)
if (units.length === 0) fail('no kernel sources in cmake/cuda_backend.cmake')
const objects = path.join(root, 'build/cuda/CMakeFiles/sparse_experts_cuda_kernels.dir')
const cache = readFileSync(path.join(root, 'build/cuda/CMakeCache.txt'), 'utf8')
const nvcc = /^CMAKE_CUDA_COMPILER:\w+=(.*)$/m.exec(cache)[1]
const nvccVersion = /V(\d+\.\d+\.\d+)/.exec(run(nvcc, ['--version']))[1]

/** Mangled → readable, without namespaces and arguments. */
const readable = new Map()
function demangle(names) {
  const unknown = [...new Set(names)].filter(name => !readable.has(name))
  if (unknown.length === 0) return
  const result = spawnSync('c++filt', { input: unknown.join('\n'), encoding: 'utf8' })
  if (result.status !== 0) fail('c++filt (binutils) is needed')
  result.stdout
    .trimEnd()
    .split('\n')
    .forEach((text, index) => {
      readable.set(unknown[index], shorten(text))
    })
}
function shorten(text) {
  const name = text
    .replace(/^void /, '')
    .replace(/\(anonymous namespace\)::|_GLOBAL__N__\w+::|_INTERNAL_\w+::/g, '')
    .replace(/sparse_experts::cuda::/g, '')
  // The arguments begin at the first parenthesis outside of the template's.
  let depth = 0
  for (let i = 0; i < name.length; i++) {
    if (name[i] === '<') depth++
    else if (name[i] === '>') depth--
    else if (name[i] === '(' && depth === 0) return name.slice(0, i).replace(/\((\w+)\)/g, '')
  }
  return name.replace(/\((\w+)\)/g, '')
}

// ---- registers, stack, shared memory ------------------------------------------------------------------------------------------------

const kernels = {}
const kernelOf = (name, unit) => (kernels[name] ??= { unit: path.basename(unit), architectures: {} })
for (const unit of units) {
  const log = path.join(objects, `${unit}.o.ptxas`)
  if (!existsSync(log)) fail(`${path.relative(root, log)} is not there: remove build/cuda and run again`)
  const text = readFileSync(log, 'utf8')
  demangle([...text.matchAll(/entry function '(\w+)'/g)].map(([, name]) => name))
  const ENTRY =
    /entry function '(\w+)' for 'sm_(\d+)a?'\n.*Function properties for \w+\n\s+(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads\n.*Used (\d+) registers(.*)/g
  let found = 0
  for (const [, name, architecture, stack, stores, loads, registers, rest] of text.matchAll(ENTRY)) {
    found++
    kernelOf(readable.get(name), unit).architectures[architecture] = {
      registers: Number(registers),
      stack: Number(stack),
      spills: Number(stores) + Number(loads),
      shared: Number(/(\d+) bytes smem/.exec(rest)?.[1] ?? 0),
    }
  }
  const entries = text.match(/Compiling entry function/g)?.length ?? 0
  if (found !== entries || found === 0) fail(`${log}: ${found} of ${entries} kernels could be read`)
}

// ---- what stands in the PTX -----------------------------------------------------------------------------------------------------------

for (const unit of units) {
  const file = path.join(root, 'build/cuda', `${path.basename(unit)}.ptx`)
  run(nvcc, ['-std=c++17', '-O3', '--fmad=false', '-I', 'csrc', '-arch=compute_80', '-ptx', unit, '-o', file])
  const text = readFileSync(file, 'utf8')
  const entries = [...text.matchAll(/\.entry (\w+)\(/g)]
  demangle(entries.map(([, name]) => name))
  entries.forEach(({ index, 1: name }, i) => {
    const body = text.slice(index, entries[i + 1]?.index)
    const kernel = kernelOf(readable.get(name), unit)
    kernel.threads = Number(/\.maxntid (\d+)/.exec(body)?.[1] ?? 0)
    kernel.leastBlocks = Number(/\.minnctapersm (\d+)/.exec(body)?.[1] ?? 1)
    const counts = Object.fromEntries(Object.keys(CENSUS).map(key => [key, 0]))
    let all = 0
    for (const line of body.split('\n')) {
      const instruction = line.trim().replace(/^@!?%p\d+\s+/, '')
      if (!/^[a-z][\w.:]*\s.*;$|^[a-z][\w.]*;$/.test(instruction) || instruction.startsWith('.')) continue
      all++
      for (const [key, pattern] of Object.entries(CENSUS)) if (pattern.test(instruction)) counts[key]++
    }
    kernel.instructions = { all, ...counts }
  })
}

// ---- occupancy ---------------------------------------------------------------------------------------------------------------------------

/** Blocks that fit on a multiprocessor by registers, warps and static shared memory; dynamic shared memory comes on top of it. */
function blocksPerMultiprocessor(architecture, threads, { registers, shared }) {
  const limit = MULTIPROCESSOR[architecture]
  const warps = Math.ceil(threads / 32)
  const warpRegisters = Math.ceil((registers * 32) / 256) * 256
  return Math.min(
    limit.blocks,
    Math.floor(limit.warps / warps),
    Math.floor(Math.floor(REGISTERS_PER_MULTIPROCESSOR / warpRegisters) / warps),
    Math.floor((limit.sharedKiB * 1024) / (shared + RESERVED_SHARED_BYTES)),
  )
}

const problems = []
for (const [name, kernel] of Object.entries(kernels)) {
  for (const [architecture, figures] of Object.entries(kernel.architectures)) {
    const at = `${name}, sm_${architecture}`
    if (!MULTIPROCESSOR[architecture]) fail(`no limits are known for sm_${architecture}`)
    if (figures.spills > 0) problems.push(`${at}: spills ${figures.spills} bytes of registers`)
    if (figures.stack > 0) problems.push(`${at}: a stack frame of ${figures.stack} bytes`)
    figures.blocks = blocksPerMultiprocessor(architecture, kernel.threads, figures)
    if (figures.blocks < kernel.leastBlocks)
      problems.push(`${at}: ${figures.blocks} blocks per multiprocessor instead of ${kernel.leastBlocks}`)
  }
  if (!kernel.instructions) {
    problems.push(`${name}: not in the PTX`)
    continue
  }
  if (!kernel.threads) problems.push(`${name}: no __launch_bounds__`)
  if (kernel.instructions.local > 0)
    problems.push(`${name}: ${kernel.instructions.local} accesses to local memory in the PTX`)
  for (const [pattern, instruction, least] of LEAST_INSTRUCTIONS) {
    if (pattern.test(name) && kernel.instructions[instruction] < least)
      problems.push(`${name}: ${kernel.instructions[instruction]} ${instruction}, expected ${least} or more`)
  }
}

const { manifest, problems: missing } = checkManifest(kernels)
problems.push(...missing)

// ---- which configuration each matmul gets -----------------------------------------------------------------------------------------------

const target = ['--build', 'build/cuda', '--target', 'matmul_configs']
if (spawnSync('cmake', target, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] }).status !== 0)
  process.exit(1)
const tsx = path.join(root, 'node_modules/tsx/dist/cli.mjs')
const shapes = run(process.execPath, [tsx, 'bench/harness/shapes.ts']).trim().split('\n')
const configs = run(path.join(root, 'build/cuda/matmul_configs'), shapes)
  .trim()
  .split('\n')
  .map(line => JSON.parse(line))
for (const { shape, architecture, matmul, tokens, sharedBytes, threads, blocks } of configs) {
  const at = `${shape}, ${matmul}, T = ${tokens}, sm_${architecture}`
  const { sharedKiB, warps } = MULTIPROCESSOR[architecture]
  if (blocks * (sharedBytes + RESERVED_SHARED_BYTES) > sharedKiB * 1024)
    problems.push(`${at}: ${blocks} blocks of ${sharedBytes} bytes do not fit into ${sharedKiB} KiB`)
  if (blocks * threads > warps * 32) problems.push(`${at}: ${blocks} blocks of ${threads} threads do not fit`)
}

// ---- against the committed figures ----------------------------------------------------------------------------------------------------

const sorted = Object.fromEntries(Object.entries(kernels).sort(([a], [b]) => (a < b ? -1 : 1)))
const result = { nvcc: nvccVersion, kernels: sorted, manifest }
const jsonFile = path.join(root, 'docs/performance/kernels.json')
const tableFile = path.join(root, 'docs/performance/kernels.md')
const committed = existsSync(jsonFile) && JSON.parse(readFileSync(jsonFile, 'utf8'))

const worse = []
const moved = []
function compare(before, after) {
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    if (!before[name] || !after[name]) {
      moved.push(`${name}: ${before[name] ? 'gone' : 'new'}`)
      continue
    }
    for (const architecture of Object.keys(after[name].architectures)) {
      const [old, now] = [before[name].architectures[architecture], after[name].architectures[architecture]]
      const at = `${name}, sm_${architecture}`
      if (!old) {
        moved.push(`${at}: new`)
        continue
      }
      if (now.blocks < old.blocks)
        worse.push(`${at}: ${now.blocks} blocks per multiprocessor, were ${old.blocks}`)
      const registers = now.registers - old.registers
      if (Math.abs(registers) > TOLERANCE.registers)
        (registers > 0 ? worse : moved).push(`${at}: ${now.registers} registers, were ${old.registers}`)
      if (now.shared !== old.shared)
        (now.shared > old.shared ? worse : moved).push(
          `${at}: ${now.shared} bytes of shared memory, were ${old.shared}`,
        )
    }
    const [was, is] = [before[name].instructions, after[name].instructions ?? {}]
    for (const key of Object.keys(is)) {
      const more = is[key] - was[key]
      if (Math.abs(more) <= Math.max(1, TOLERANCE.instructionShare * was[key])) continue
      const text = `${name}: ${is[key]} instructions (${key}), were ${was[key]}`
      ;(more > 0 ? worse : moved).push(text)
    }
  }
}

const numKernels = Object.keys(sorted).length
const summary = `${numKernels} kernels, compiled in ${compileSeconds} s (nvcc ${nvccVersion})`
if (problems.length > 0) fail(`${summary}\n${problems.join('\n')}\n\n${problems.length} problems`)
if (values.write) {
  writeFileSync(jsonFile, `${JSON.stringify(result, null, 1)}\n`)
  writeFileSync(tableFile, kernelTable(result, configs))
  console.log(`check:kernels: ${summary}; wrote docs/performance/kernels.json and kernels.md`)
  process.exit(0)
}
if (!committed) fail('docs/performance/kernels.json is not there: npm run check:kernels -- --write')
compare(committed.kernels, sorted)
const list = (title, lines) => lines.length > 0 && console.error(`\n${title}\n  ${lines.join('\n  ')}`)
list('worse than committed:', worse)
list('otherwise not as committed:', moved)
if (committed.nvcc !== nvccVersion) {
  console.log(
    `\ncheck:kernels: ${summary}; the committed figures are of nvcc ${committed.nvcc}, so differences are no failure`,
  )
} else if (worse.length + moved.length > 0) {
  fail(
    `${summary}; ${worse.length} figures worse, ${moved.length} otherwise changed. If meant: npm run check:kernels -- --write`,
  )
} else {
  console.log(`check:kernels: ${summary}: no spill, no stack, no local memory; figures as committed`)
}
