/**
 * `npm run bench:peers`: the same layer through this package and through what a Node user could take instead, interleaved in one run.
 *
 *   npm run bench:peers -- [--filter Qwen3-30B,small] [--tokens 1,8,64,512] [--threads N] [--rounds 5] [--block MS] [--retries 1] [--only f32,bf16,quantized] [--json FILE]
 *
 * Steps: install the peers in this folder, make one layer's weights, write them as files, run each group of comparable peers in rounds,
 * compare their outputs. Peers that are not here are named with what to install.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { relativeError } from '../../lib/accuracy.js'
import { formatDuration, formatError } from '../../lib/cli/format.js'
import type { MoeConfig } from '../../lib/index.js'
import { makeLayerData } from '../../test/helpers/layer-data.js'
import { Random } from '../../test/helpers/random.js'
import { randomHidden } from '../data.js'
import { environment, machineMeasurement } from '../machine.js'
import { DISTURBED_CORES, watchLoad } from '../other-load.js'
import { machineLines } from '../report-table.js'
import { revision, writeResults } from '../results.js'
import { BENCH_SHAPES } from '../shapes.js'
import { writeLayerFiles } from './files.js'
import { installPeers, peerVersion } from './modules.js'
import { createNaive } from './naive.js'
import { createOnnxRuntime, FAST_INT4 } from './onnxruntime.js'
import { createOurs } from './ours.js'
import type { Peer, PeerLayer } from './peer.js'
import { PEER_HEAD, type PeerResults, peerLine } from './results.js'
import { median, ratioOf, runRounds } from './rounds.js'
import { createTorch, findTorch, NO_TORCH } from './torch.js'

const { values: options } = parseArgs({
  options: {
    filter: { type: 'string', default: 'DeepSeek-V2-Lite,OLMoE,Qwen3-30B,small' },
    tokens: { type: 'string', default: '1,8,64,512' },
    threads: { type: 'string', default: '0' },
    rounds: { type: 'string', default: '5' },
    block: { type: 'string', default: '150' },
    retries: { type: 'string', default: '1' },
    only: { type: 'string', default: 'f32,bf16,quantized' },
    json: { type: 'string' },
  },
})
const list = (text: string) => text.split(',').filter(Boolean)
const tokenCounts = list(options.tokens).map(Number)
const results: PeerResults = {
  benchmark: 'sparse-experts peers',
  date: new Date().toISOString(),
  revision: revision(),
  environment: environment(),
  machine: null,
  versions: {},
  rows: [],
  notMeasured: [],
}
const threads = Number(options.threads) || results.environment.cores

/** Farther from ours in f32 than rounding and quantizing explain: another layer, whose speed says nothing. */
const MAX_ERROR: Record<Peer['dtype'], number> = { f32: 1e-4, bf16: 2e-2, f16: 2e-2, int8: 5e-2, int4: 0.3 }

type Maker = [what: string, make: () => Promise<Peer> | Peer]
const torch = findTorch()
const ofTorch = (layer: PeerLayer, dtype: 'f32' | 'bf16'): Maker => [
  `PyTorch ${dtype}`,
  () => {
    if (!torch) throw new Error(NO_TORCH)
    return createTorch(layer, dtype, torch.python)
  },
]

/** Peers that are measured against each other: ours first. Memory for all of one group is needed at a time. */
const GROUPS: Record<string, (layer: PeerLayer) => Maker[]> = {
  f32: layer => [
    ['sparse-experts f32', () => createOurs(layer, 'f32')],
    ['onnxruntime-node f32', () => createOnnxRuntime(layer, 'f32')],
    ofTorch(layer, 'f32'),
    ['JavaScript loop', () => createNaive(layer)],
  ],
  bf16: layer => [['sparse-experts bf16', () => createOurs(layer, 'bf16')], ofTorch(layer, 'bf16')],
  quantized: layer => [
    ['sparse-experts bf16', () => createOurs(layer, 'bf16')],
    ['onnxruntime-node int8', () => createOnnxRuntime(layer, 'int8')],
    ['onnxruntime-node int4', () => createOnnxRuntime(layer, 'int4')],
  ],
}

installPeers()
results.versions = {
  'onnxruntime-node': peerVersion('onnxruntime-node'),
  ...(torch && { torch: torch.version }),
  node: process.version,
}
results.machine = machineMeasurement([threads])()
if (results.machine && !results.machine.fmaInstruction?.startsWith('avx512')) {
  const reason = `${FAST_INT4} has no effect without AVX-512: its int4 rows are the slow path`
  results.notMeasured.push({ what: 'onnxruntime-node fast int4', reason })
}
console.log(`${results.environment.cpu}, ${threads} threads; ${JSON.stringify(results.versions)}`)
if (results.machine) console.log(machineLines(results.machine).join('\n'))
console.log(`\n${PEER_HEAD}`)

for (const { name, config, expertsOfAllRanks } of BENCH_SHAPES) {
  const isWanted = list(options.filter).some(word => name.toLowerCase().includes(word.toLowerCase()))
  if (!isWanted || expertsOfAllRanks !== undefined) continue
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sparse-experts-peers-'))
  try {
    await compareShape(makeLayer(name, config, directory))
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
for (const { what, reason } of results.notMeasured) console.log(`${what}: not measured (${reason})`)
if (options.json) writeResults(options.json, results)

/** The shape with the one routing rule that every peer has: softmax, top-k, renormalised. */
function makeLayer(shape: string, published: MoeConfig, directory: string): PeerLayer {
  const { hiddenSize, intermediateSize, numExperts, topK, numSharedExperts } = published
  const config: MoeConfig = {
    ...{ hiddenSize, intermediateSize, numExperts, topK, numSharedExperts },
    scoringFunc: 'softmax',
    normTopkProb: true,
  }
  const { weights } = makeLayerData({ name: shape, config, numTokens: 1, load: 'gate' }, 'bf16')
  const numRows = Math.max(256, 2 * Math.max(...tokenCounts))
  const hidden = randomHidden(new Random(3), numRows, hiddenSize)
  const layer = { shape, config, weights, hidden, threads, directory }
  writeLayerFiles(layer)
  return layer
}

async function compareShape(layer: PeerLayer): Promise<void> {
  const reference = createOurs(layer, 'f32')
  const expected = new Map<number, Float32Array>()
  for (const numTokens of tokenCounts) expected.set(numTokens, await reference.output(numTokens))
  await reference.close()
  for (const group of list(options.only)) {
    const makers = GROUPS[group]
    if (!makers) throw new Error(`--only takes ${Object.keys(GROUPS).join(', ')}; got '${group}'`)
    const peers: Peer[] = []
    for (const [what, make] of makers(layer)) {
      try {
        peers.push(await make())
      } catch (error) {
        const reason = (error as Error).message.split('\n')[0]!
        results.notMeasured.push({ what: `${layer.shape} ${what}`, reason })
      }
    }
    for (const numTokens of tokenCounts)
      await compareAt(layer, group, peers, numTokens, expected.get(numTokens)!)
    for (const peer of peers) await peer.close()
  }
}

async function compareAt(
  { shape }: PeerLayer,
  group: string,
  peers: readonly Peer[],
  numTokens: number,
  expected: Float32Array,
): Promise<void> {
  const childrenCpuMs = () => peers.reduce((sum, peer) => sum + (peer.cpuMs?.() ?? 0), 0)
  const { times, foreignCores } = await leastDisturbed(async () => {
    const watch = watchLoad(childrenCpuMs)
    const measured = await runRounds(peers, numTokens, {
      rounds: Number(options.rounds),
      blockMs: Number(options.block),
    })
    return { times: measured, foreignCores: watch.stop() }
  })
  for (const [index, peer] of peers.entries()) {
    const { rounds, callMs } = times[index]!
    if (rounds.length === 0) {
      const what = `${shape} ${peer.name} ${peer.dtype} T=${numTokens}`
      results.notMeasured.push({ what, reason: `slow: a call took ${formatDuration(callMs)}` })
      continue
    }
    const outputError = relativeError(await peer.output(numTokens), expected)
    const medianMs = median(rounds)
    const row = {
      ...{ shape, numTokens, threads, group, peer: peer.name, dtype: peer.dtype, medianMs },
      tokensPerSecond: (1000 * numTokens) / medianMs,
      ratio: ratioOf(rounds, times[0]!.rounds),
      outputError,
      foreignCores,
      disturbed: (foreignCores ?? 0) > DISTURBED_CORES,
    }
    if (outputError < MAX_ERROR[peer.dtype]) {
      results.rows.push(row)
      console.log(peerLine(row))
    } else {
      const what = `${shape} ${peer.name} ${peer.dtype} T=${numTokens}`
      const reason = `computes something else: relative error ${formatError(outputError)}`
      results.notMeasured.push({ what, reason })
      process.exitCode = 1
    }
  }
}

/** All rounds again where other load was there; of two disturbed measurements the less disturbed one. */
async function leastDisturbed<T extends { foreignCores: number | null }>(
  measure: () => Promise<T>,
): Promise<T> {
  let best = await measure()
  for (
    let retry = 0;
    retry < Number(options.retries) && (best.foreignCores ?? 0) > DISTURBED_CORES;
    retry++
  ) {
    const again = await measure()
    if ((again.foreignCores ?? 0) < (best.foreignCores ?? 0)) best = again
  }
  return best
}
