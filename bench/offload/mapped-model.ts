/**
 * A token through all layers of a model that is larger than its memory: our layers with a cache of experts, and llama.cpp on the same file, which it maps
 * and leaves to the system's page faults. Each has the memory to itself: a round loads one, runs it and lets it go, then the other.
 */

import path from 'node:path'
import { formatBytes, formatDuration, formatNumber, formatPercent } from '../../lib/cli/format.js'
import { isDisturbed, watchLoad } from '../harness/other-load.js'
import { MoeModel } from '../harness/package.js'
import { disturbance } from '../harness/result-lines.js'
import { median, type Ratio, ratioOf } from '../harness/rounds.js'
import type { BenchShape } from '../harness/shapes.js'
import { installLlama, type Llama, loadLlama, NAME } from '../peers/llama/llama-packages.js'
import { VOCABULARY, writeModel } from '../peers/llama/model.js'
import { Rows } from './offload-checkpoint.js'

export interface MappedModelRow {
  shape: string
  layers: number
  peer: string
  /** Of the experts of all layers, in bf16. */
  expertBytes: number
  /** Of the cache of our layers. */
  cacheBytes: number
  /** Bytes of the memory group that all of it ran in; null: the whole machine's. */
  memoryBytes: number | null
  /** Medians of a token: ours through the layers, theirs through the model, whose attention is in it. */
  oursMs: number
  theirsMs: number
  /** Theirs over ours. */
  ratio: Ratio
  hitRate: number
  foreignCores: number | null
  disturbed: boolean
}

export interface MappedModel {
  shape: BenchShape
  layers: number
  file: string
  peer: string
  llama: Llama
}

const CALLS = 24
/** Calls before those that are measured: the cache and the mapped pages are then what calls leave behind. */
const WARM_CALLS = 8

/** Installs the peer and writes the model, before the memory is limited. */
export async function prepareMappedModel(
  shape: BenchShape,
  directory: string,
  layers: number,
  threads: number,
): Promise<MappedModel> {
  const peer = `${NAME} ${installLlama()}`
  const file = path.join(directory, 'mapped.gguf')
  writeModel(file, shape.config, layers, 'bf16')
  return { shape, layers, file, peer, llama: await loadLlama(threads) }
}

export async function measureMappedModel(
  { shape, layers, file, peer, llama }: MappedModel,
  rounds: number,
  memoryBytes: number | null,
): Promise<MappedModelRow> {
  const plan = await MoeModel.plan(file, { device: 'cpu' })
  const { numExperts, topK } = shape.config
  const expertBytes = plan.layers.reduce((sum, layer) => sum + numExperts * layer.expertBytes, 0)
  // Half of the group, where there is one: the rest is for Node, scratch and what the peer allocates.
  const least = ((topK + 1) * expertBytes) / numExperts
  const cacheBytes = Math.ceil(Math.max(least, Math.min(expertBytes, memoryBytes ?? expertBytes) / 2))
  const [ours, theirs]: [number[], number[]] = [[], []]
  let [hits, misses] = [0, 0]
  const watch = watchLoad()
  for (let round = 0; round < rounds; round++) {
    const turns = [
      async () => {
        const { times, cache } = await callOurs(file, cacheBytes, round)
        ours.push(median(times))
        hits += cache.hits
        misses += cache.misses
      },
      async () => void theirs.push(median(await callTheirs(llama, file, round))),
    ]
    for (const turn of round % 2 === 0 ? turns : turns.reverse()) await turn()
  }
  const foreignCores = watch.stop()
  return {
    ...{ shape: shape.name, layers, peer, expertBytes, cacheBytes, memoryBytes },
    ...{ oursMs: median(ours), theirsMs: median(theirs), ratio: ratioOf(theirs, ours) },
    ...{ hitRate: hits / (hits + misses), foreignCores, disturbed: isDisturbed(foreignCores) },
  }
}

async function callOurs(file: string, hostBytes: number, round: number) {
  await using model = await MoeModel.load(file, { device: 'cpu', cache: { hostBytes }, maxTokens: 1 })
  const rows = new Rows(model.layer(model.layers[0]!), 100 + round)
  const times: number[] = []
  for (let call = 0; call < WARM_CALLS + CALLS; call++) {
    const row = rows.fresh(1)
    const began = performance.now()
    for (const layer of model.layers) await model.forward(layer, row)
    if (call >= WARM_CALLS) times.push(performance.now() - began)
  }
  return { times, cache: model.stats().cache! }
}

async function callTheirs(llama: Llama, modelPath: string, round: number): Promise<number[]> {
  const options = { modelPath, gpuLayers: 0, useMmap: true, ignoreMemorySafetyChecks: true }
  const model = await llama.loadModel(options)
  try {
    const context = await model.createContext({ contextSize: 64, batchSize: 32 })
    const sequence = context.getSequence()
    const times: number[] = []
    for (let call = 0; call < WARM_CALLS + CALLS; call++) {
      await sequence.clearHistory()
      const token = (37 * call + 101 * round) % VOCABULARY
      const began = performance.now()
      await sequence.evaluateWithoutGeneratingNewTokens([token])
      if (call >= WARM_CALLS) times.push(performance.now() - began)
    }
    return times
  } finally {
    await model.dispose()
  }
}

export const mappedModelLine = (row: MappedModelRow): string =>
  `mapped ${row.shape} × ${row.layers}: ${formatBytes(row.expertBytes)} of experts` +
  `${row.memoryBytes === null ? '' : ` in a group of ${formatBytes(row.memoryBytes)}`}: a token ${formatDuration(row.oursMs)} with a cache of ` +
  `${formatBytes(row.cacheBytes)} (${formatPercent(row.hitRate)} hit), ${row.peer} ${formatDuration(row.theirsMs)}: ${formatNumber(row.ratio.median)} of our time${disturbance(row)}`
