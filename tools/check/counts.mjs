/**
 * `npm run check:counts [-- --check]`: runs one forward of every published shape on the emulator and writes what its kernels do, counted, to
 * docs/performance/counts.md. With --check it counts at one token only and compares those rows with the file.
 */

import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { buildEmulator } from '../build/emulator-flavours.mjs'
import { root } from '../repository.mjs'

const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } })
const FILE = path.join(root, 'docs/performance/counts.md')
const MMA_FLOPS = 2 * 16 * 8 * 16

const run = (command, args) =>
  execFileSync(command, args, { encoding: 'utf8', cwd: root, maxBuffer: 1 << 26 })
const { tree } = buildEmulator('plain', ['cuda_counts'])
const tsx = path.join(root, 'node_modules/tsx/dist/cli.mjs')
const shapes = run(process.execPath, [tsx, 'bench/harness/shapes.ts']).trim().split('\n')
const sizes = Object.fromEntries(
  shapes.map(text => {
    const [name, hidden, intermediate, , topK, shared] = text.split(':')
    return [name, { hidden: +hidden, intermediate: +intermediate, topK: +topK, shared: +shared }]
  }),
)

/** Bytes of the weights that a matmul must read once, and the FLOPs without padding. */
function needed({ shape, tokens, expertsHit, kernel }) {
  const { hidden, intermediate, topK, shared } = sizes[shape]
  const matrices = kernel.endsWith('(down)') ? 1 : 2
  return {
    bytes: matrices * 2 * hidden * (expertsHit * intermediate + shared),
    flops: matrices * 2 * hidden * tokens * (topK * intermediate + shared),
  }
}

const group = value => String(value).replace(/\B(?=(\d{3})+$)/g, ' ')
function row(counts) {
  const cells = [
    counts.shape,
    counts.tokens,
    counts.expertsHit,
    `\`${counts.kernel}\``,
    group(counts.blocks),
    group(counts.barriers),
  ]
  cells.push(
    group(counts.warpCollectives),
    group(counts.mma),
    group(counts.ldmatrix),
    group(counts.bankConflicts),
    group(counts.copyBytes),
  )
  cells.push(counts.copyBytes ? ((counts.copySectors * 32) / counts.copyBytes).toFixed(3) : '')
  const isMatmul = /expert_matmul/.test(counts.kernel)
  const { bytes, flops } = isMatmul ? needed(counts) : {}
  cells.push(
    isMatmul ? (counts.copyBytes / bytes).toFixed(3) : '',
    isMatmul ? ((counts.mma * MMA_FLOPS) / flops).toFixed(2) : '',
  )
  return `| ${cells.join(' | ')} |`
}

const tokens = values.check ? '1' : '1,8,64'
const rows = run(path.join(tree, 'cuda_counts'), ['--tokens', tokens, ...shapes])
  .trim()
  .split('\n')
  .map(line => row(JSON.parse(line)))

if (values.check) {
  const committed = new Set(readFileSync(FILE, 'utf8').split('\n'))
  const other = rows.filter(text => !committed.has(text))
  if (other.length > 0) {
    console.error(
      `check:counts: not as in docs/performance/counts.md. If meant: npm run check:counts\n${other.join('\n')}`,
    )
    process.exit(1)
  }
  console.log(`check:counts: ${rows.length} rows as committed`)
} else {
  writeFileSync(
    FILE,
    `# What the CUDA kernels do, counted

Written by \`npm run check:counts\`: one forward of each shape in bf16 with uniform routing, on the emulator, as the configuration for its device
(sm_80, 108 multiprocessors) has it. Exact and repeatable; no time follows from it but by a model ([model](model.md)).

- barriers per block, collectives per warp (shuffles, votes, ldmatrix, mma); mma: m16n8k16 per warp; conflicts: further passes of ldmatrix and of
  the writes of cp.async
- bytes: global memory read by cp.async and by the vector loads of \`common/ptx.cuh\`; plain loads (ids, offsets, tables) are not among them
- sectors: the 32-byte sectors these reads touch, times 32, over the bytes: 1 is a perfect pattern
- over weights: bytes over those of the weights that the hit experts have; what exceeds 1 are the tokens' rows
- padding: FLOPs of the mma instructions over those of the tokens

| shape | T | experts | kernel | blocks | barriers | collectives | mma | ldmatrix | conflicts | bytes | sectors | over weights | padding |
| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
${rows.join('\n')}
`,
  )
  console.log('check:counts: wrote docs/performance/counts.md')
}
