/**
 * `npm run check:kernels [-- --write]`: compiles every kernel for every architecture (as `build:cuda` does) and gates what came out.
 *
 * - fails on any spill, stack frame or local memory access, where the compiler says that it ran wgmma one by one or left setmaxnreg out, on a
 *   kernel that lacks its instructions, and on an architecture that lacks a
 *   kernel which the table of variants (csrc/cuda/variants.cc) names for it, or has one that the table does not
 * - compares registers, shared memory, occupancy and the instruction census with docs/performance/kernels.json, and fails where they got
 *   worse or moved beyond the tolerances below; `--write` replaces that file and kernels.md
 */

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { root } from '../repository.mjs'
import { checkManifest } from './kernel-manifest.mjs'
import { readKernels } from './kernel-objects.mjs'
import { kernelTable } from './kernel-table.mjs'

/** Where a figure may stray from the committed one without being said to have changed: compilers are not exact. */
const TOLERANCE = { registers: 2, instructionShare: 0.02, cyclesOfAnMma: 0.05 }

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
  [/^router_mma/, 'mma', 4],
  [/^stored_expert_matmul/, 'mma', 8],
  [/^stored_expert_matmul/, 'ldmatrix', 4],
  [/^wg_expert_matmul/, 'wgmma', 4],
  [/^wg_expert_matmul/, 'cp.async.bulk', 1],
  [/_expert_matmul/, 'cp.async', 2],
  [/^f32_expert_matmul/, 'fma', 64],
]

/**
 * Cycles of a scheduler for one m16n8k16 of 16-bit types into f32, as its compiler schedules them where nothing else is in the way; and how much more a
 * round of the largest tile's loop may take per product. Where no figure is known the loop is listed and not judged.
 */
const MMA_CYCLES = { 80: 8, 90: 6 }
const MOST_OVER_MMA = 1.03
const LARGEST_TILE = /^half_expert_matmul_kernel<\w+, HalfTile<2, 2, 4, 8,/

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

const tree = path.join(root, 'build/cuda')
const compiler = /^CMAKE_CUDA_COMPILER:\w+=(.*)$/m.exec(
  readFileSync(path.join(tree, 'CMakeCache.txt'), 'utf8'),
)
const nvccVersion = /V(\d+\.\d+\.\d+)/.exec(run(compiler[1], ['--version']))[1]
const { kernels, remarks } = readKernels(tree)

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

const problems = [...remarks]
for (const [name, kernel] of Object.entries(kernels)) {
  for (const [architecture, figures] of Object.entries(kernel.architectures)) {
    const at = `${name}, sm_${architecture}`
    if (!MULTIPROCESSOR[architecture]) fail(`no limits are known for sm_${architecture}`)
    if (figures.spills > 0) problems.push(`${at}: spills ${figures.spills} bytes of registers`)
    if (figures.stack > 0) problems.push(`${at}: a stack frame of ${figures.stack} bytes`)
    if (LARGEST_TILE.test(name) && MMA_CYCLES[architecture]) {
      const share = figures.loop && figures.loop.cycles / (figures.loop.mma * MMA_CYCLES[architecture])
      if (!figures.loop) problems.push(`${at}: no loop of products without a branch`)
      else if (share > MOST_OVER_MMA)
        problems.push(
          `${at}: ${figures.loop.cycles} cycles for ${figures.loop.mma} mma, ${share.toFixed(3)} of their own`,
        )
    }
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

// ---- against the table of variants ------------------------------------------------------------------------------------------------------

const target = ['--build', tree, '--target', 'kernel_variants', 'matmul_configs']
if (spawnSync('cmake', target, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] }).status !== 0)
  process.exit(1)
const readLines = (program, args) =>
  run(path.join(tree, program), args)
    .trim()
    .split('\n')
    .map(line => JSON.parse(line))
const { manifest, problems: missing } = checkManifest(readLines('kernel_variants', []), kernels)
problems.push(...missing)

// ---- which configuration each matmul gets -----------------------------------------------------------------------------------------------

const tsx = path.join(root, 'node_modules/tsx/dist/cli.mjs')
const shapes = run(process.execPath, [tsx, 'bench/harness/shapes.ts']).trim().split('\n')
const configs = readLines('matmul_configs', shapes)
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
      const cycles =
        (now.loop?.cycles ?? 0) / (now.loop?.mma ?? 1) - (old.loop?.cycles ?? 0) / (old.loop?.mma ?? 1)
      if (Math.abs(cycles) > TOLERANCE.cyclesOfAnMma)
        (cycles > 0 ? worse : moved).push(`${at}: ${cycles.toFixed(2)} cycles more for an mma of its loop`)
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
