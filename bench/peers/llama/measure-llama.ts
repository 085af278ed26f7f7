/**
 * node-llama-cpp for context: it takes whole models only, so one layer of it is half of what three layers take more than one. Attention
 * is in that figure, and its inputs are not ours. Both read the same file.
 */

import { rmSync } from 'node:fs'
import path from 'node:path'
import { holding } from '../../harness/layers.js'
import { isDisturbed, leastDisturbed, watchLoad } from '../../harness/other-load.js'
import { contestantOf as ourContestant } from '../../harness/our-layer.js'
import { MoeLayer } from '../../harness/package.js'
import type { PeerLayer } from '../../harness/peer.js'
import { type Contestant, median, ratioOf, runRounds } from '../../harness/rounds.js'
import type { PeersOptions } from '../peers-options.js'
import type { ContextRow } from '../peers-results.js'
import { type LlamaModel, loadLlama, NAME } from './llama-packages.js'
import { layerWeights, type ModelForm, VOCABULARY, writeModel } from './model.js'

const LAYERS = { few: 1, many: 3 }

export async function measureContext(
  layer: PeerLayer,
  form: ModelForm,
  options: PeersOptions,
): Promise<ContextRow[]> {
  const files = Object.values(LAYERS).map(count => path.join(layer.directory, `${count}.gguf`))
  for (const [index, count] of Object.values(LAYERS).entries())
    writeModel(files[index]!, layer.config, count, form)
  const llama = await loadLlama(layer.threads)
  const rows: ContextRow[] = []
  const ours = await MoeLayer.load(files[0]!, {
    ...{ layer: 0, device: 'cpu', threads: layer.threads },
    ...holding(form),
  })
  const models: LlamaModel[] = []
  try {
    const contestants = [ourContestant(layer, ours)]
    for (const modelPath of files) {
      const model = await llama.loadModel({ modelPath, gpuLayers: 0 })
      models.push(model)
      contestants.push(await contestantOf(model, Math.max(...options.tokens), layer.threads))
    }
    for (const numTokens of options.tokens) {
      const { times, foreignCores } = await leastDisturbed(options.retries, async () => {
        const watch = watchLoad()
        const measured = await runRounds(contestants, numTokens, options)
        return { times: measured.map(({ rounds }) => rounds), foreignCores: watch.stop() }
      })
      const [own, few, many] = times as [number[], number[], number[]]
      const perLayer = perLayerMs(few, many)
      // Two noisy times whose difference is nothing.
      if (!(median(perLayer) > 0)) continue
      rows.push({
        ...{ shape: layer.shape, numTokens, threads: layer.threads, peer: NAME, dtype: form },
        ...{ layerMs: median(perLayer), ratio: ratioOf(perLayer, own), ...layerWeights(layer.config) },
        ...{ foreignCores, disturbed: isDisturbed(foreignCores) },
      })
    }
  } finally {
    ours.dispose()
    for (const model of models) await model.dispose()
    await llama.dispose()
    for (const file of files) rmSync(file, { force: true })
  }
  return rows
}

/** Round by round; empty where one of the two was too slow to be measured. */
export function perLayerMs(few: readonly number[], many: readonly number[]): number[] {
  if (few.length !== many.length) return []
  return many.map((ms, round) => (ms - few[round]!) / (LAYERS.many - LAYERS.few))
}

async function contestantOf(model: LlamaModel, mostTokens: number, threads: number): Promise<Contestant> {
  const batchSize = Math.max(32, mostTokens)
  const context = await model.createContext({ contextSize: 2 * batchSize, batchSize, threads })
  const sequence = context.getSequence()
  return {
    async times(numTokens, first, calls) {
      const times: number[] = []
      for (let call = first; call < first + calls; call++) {
        await sequence.clearHistory()
        const tokens = Array.from({ length: numTokens }, (_, at) => (37 * at + 11 * call) % VOCABULARY)
        const began = performance.now()
        await sequence.evaluateWithoutGeneratingNewTokens(tokens)
        times.push(performance.now() - began)
      }
      return times
    },
  }
}
