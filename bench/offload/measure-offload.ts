/** `npm run bench:offload`: many layers as one model, and experts that are read when a call needs them, beside what bounds them. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { parseBytes } from '../../lib/cli/sizes.js'
import { makeMemoryGroup } from '../../test/helpers/memory-group.js'
import { environment } from '../harness/machine.js'
import { revision, writeResults } from '../harness/results.js'
import { shapeNamed } from '../harness/shapes.js'
import { offloadChart } from '../report/charts/offload.js'
import { renderSvg } from '../report/render-svg.js'
import { fetchLine, hitLine, measureFetches, measureHits } from './cached-calls.js'
import { mappedModelLine, measureMappedModel, prepareMappedModel } from './mapped-model.js'
import { measureModelLoad, modelLoadLine } from './model-load.js'
import { forgetFiles, type OffloadDType, writeOffloadCheckpoint } from './offload-checkpoint.js'
import type { OffloadResults } from './offload-results.js'
import { measurePlain, plainLine } from './plain-calls.js'
import { measurePredictions, predictionLine } from './predictions.js'
import { measurePrefetch, prefetchLine } from './prefetched-calls.js'
import { measureSimulations, simulationLine } from './simulated-calls.js'

const PARTS = ['load', 'hit', 'fetch', 'predict', 'prefetch', 'simulate', 'plain', 'llama'] as const
type Part = (typeof PARTS)[number]

/** What needs neither another checkout nor the npm registry. */
const DEFAULT_PARTS = PARTS.filter(part => part !== 'plain' && part !== 'llama')

/** Between calls of two layers of a token, where a model has its attention. */
const PAUSE_MS = 10

const USAGE = `Usage: npm run bench:offload -- [--part ${PARTS.join(',')}] [--shape OLMoE-1B-7B] [--layers 2] [--dtype bf16] [--rounds 7]
  [--calls 1000000] [--memory 1GiB] [--before DIR] [--directory DIR] [--json FILE] [--svg FILE]

Writes a checkpoint of layers, each in a file of its own, to a directory below DIR (default: the temporary one; it should lie on a disk).
load      all layers beside a plain read of the same bytes, memory beside the plan
hit       calls of a cache that holds all, beside the layer without one
fetch     calls that read most experts, beside the same reads alone and beside mapped files
predict   the median call that simulate says, beside the one that was measured
prefetch  hits with experts read ahead, beside those that simulate says, and calls with and without
simulate  processor time of simulated calls
plain     calls of a layer that is whole in memory, beside those of the checkout in --before, after \`npm ci\` there
llama     a token through all layers with a cache, beside llama.cpp on the same file, which it maps; installs node-llama-cpp (needs the npm registry)
Without --part all but the last two.
With --memory all of it but the writing runs in a control group of so many bytes, where this process may make one.
`

const { values } = parseArgs({
  options: {
    part: { type: 'string', default: DEFAULT_PARTS.join(',') },
    before: { type: 'string' },
    shape: { type: 'string', default: 'OLMoE-1B-7B' },
    layers: { type: 'string', default: '2' },
    dtype: { type: 'string', default: 'bf16' },
    rounds: { type: 'string', default: '7' },
    calls: { type: 'string', default: '1000000' },
    memory: { type: 'string' },
    directory: { type: 'string', default: os.tmpdir() },
    json: { type: 'string' },
    svg: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
const shape = shapeNamed(values.shape)
const parts = values.part.split(',') as Part[]
if (
  values.help ||
  !shape ||
  !['bf16', 'f16', 'fp8'].includes(values.dtype) ||
  parts.some(part => !PARTS.includes(part)) ||
  parts.includes('plain') !== (values.before !== undefined)
) {
  process.stdout.write(USAGE)
  process.exit(values.help ? 0 : 2)
}

const rounds = Number(values.rounds)
const results: OffloadResults = {
  ...{ benchmark: 'sparse-experts offload', date: new Date().toISOString(), revision: revision() },
  environment: environment(),
  ...{
    modelLoads: [],
    hits: [],
    fetches: [],
    plains: [],
    mapped: [],
    predictions: [],
    prefetches: [],
    simulations: [],
  },
}
const said = <Row>(rows: Row[], line: (row: Row) => string): Row[] => {
  for (const row of rows) console.log(line(row))
  return rows
}
const memoryBytes = values.memory === undefined ? null : parseBytes('memory', values.memory)

/** The group goes with the machine: a process cannot leave behind what it is in. */
function enterMemoryGroup(files: readonly string[]): void {
  if (memoryBytes === null) return
  forgetFiles(files)
  const group = makeMemoryGroup(memoryBytes)
  if (typeof group === 'string') throw new Error(`There is no control group: ${group}`)
  writeFileSync(group.file, String(process.pid))
}

const directory = mkdtempSync(path.join(values.directory, 'sparse-experts-offload-'))
try {
  const numLayers = Number(values.layers)
  if (parts.some(part => part !== 'simulate')) {
    const checkpoint = await writeOffloadCheckpoint(shape, values.dtype as OffloadDType, directory, numLayers)
    const mapped = parts.includes('llama')
      ? await prepareMappedModel(shape, directory, numLayers, results.environment.cores)
      : null
    enterMemoryGroup([...checkpoint.files, ...(mapped ? [mapped.file] : [])])
    if (mapped)
      results.mapped = said([await measureMappedModel(mapped, rounds, memoryBytes)], mappedModelLine)
    if (values.before)
      results.plains = said(
        await measurePlain(shape, path.resolve(values.before), numLayers, rounds),
        plainLine,
      )
    if (parts.includes('load'))
      results.modelLoads = said([await measureModelLoad(checkpoint, rounds)], modelLoadLine)
    if (parts.includes('hit'))
      for (const numTokens of [1, 64])
        results.hits.push(...said([await measureHits(checkpoint, numTokens, rounds)], hitLine))
    if (parts.includes('fetch'))
      for (const readers of [2, 4])
        results.fetches.push(
          ...said([await measureFetches(checkpoint, readers, rounds, memoryBytes)], fetchLine),
        )
    if (parts.includes('predict'))
      results.predictions = said(await measurePredictions(checkpoint), predictionLine)
    if (parts.includes('prefetch') && numLayers > 1)
      for (const share of [0.25, 0.5])
        results.prefetches.push(...said([await measurePrefetch(checkpoint, share, PAUSE_MS)], prefetchLine))
  }
  if (parts.includes('simulate'))
    results.simulations = said(await measureSimulations(Number(values.calls)), simulationLine)
} finally {
  rmSync(directory, { recursive: true, force: true })
}
if (values.json) writeResults(values.json, results)
if (values.svg) writeFileSync(values.svg, await renderSvg(offloadChart(results).spec))
