/**
 * `npm run bench:contention`: what one busy loop on one core costs a forward that may use all of them: a server seldom has its cores to
 * itself. With static shares and spinning barriers everybody waits for the thread on that core; with N cores the fair cost is at most the
 * share of one core plus what its last piece of work takes.
 *
 *   npm run bench:contention -- [--filter small,OLMoE] [--dtype bf16,f32] [--tokens 1,8,64,512] [--rounds 5] [--json FILE]
 *
 * Rounds alternate between quiet and busy in one run; the ratio is the median of the rounds' ratios.
 */

import { parseArgs } from 'node:util'
import { formatDuration, formatNumber } from '../lib/cli/format.js'
import type { DType } from '../lib/index.js'
import { makeLayerData } from '../test/helpers/layer-data.js'
import { Random } from '../test/helpers/random.js'
import { type BusyLoop, startBusyLoop } from './busy-loop.js'
import { randomHidden } from './data.js'
import { environment } from './machine.js'
import { DISTURBED_CORES, watchLoad } from './other-load.js'
import { createOurs } from './peers/ours.js'
import type { Peer } from './peers/peer.js'
import { median, ratioOf, runRounds } from './peers/rounds.js'
import { type ContentionResults, type ContentionRow, revision, writeResults } from './results.js'
import { BENCH_SHAPES, type BenchShape } from './shapes.js'

const { values: options } = parseArgs({
  options: {
    filter: { type: 'string', default: 'small,OLMoE' },
    dtype: { type: 'string', default: 'bf16,f32' },
    tokens: { type: 'string', default: '1,8,64,512' },
    rounds: { type: 'string', default: '5' },
    json: { type: 'string' },
  },
})
const list = (text: string) => text.split(',').filter(Boolean)
const machine = environment()
const rows: ContentionRow[] = []
const loop = await startBusyLoop(machine.cores - 1)
try {
  console.log(`${machine.cpu}, ${machine.cores} threads, a busy loop on core ${machine.cores - 1}`)
  for (const shape of BENCH_SHAPES) {
    const isWanted = list(options.filter).some(word => shape.name.toLowerCase().includes(word.toLowerCase()))
    if (!isWanted || shape.expertsOfAllRanks !== undefined) continue
    for (const dtype of list(options.dtype)) await measureLayer(shape, dtype as DType)
  }
} finally {
  await loop.stop()
}
if (options.json) {
  const result: ContentionResults = {
    ...{ benchmark: 'sparse-experts contention', date: new Date().toISOString(), revision: revision() },
    ...{ environment: machine, rows },
  }
  writeResults(options.json, result)
}

async function measureLayer({ name, config }: BenchShape, dtype: DType): Promise<void> {
  const threads = machine.cores
  const { weights } = makeLayerData({ name, config, numTokens: 1, load: 'gate' }, dtype)
  const tokens = list(options.tokens).map(Number)
  const numRows = Math.max(256, 2 * Math.max(...tokens))
  const hidden = randomHidden(new Random(3), numRows, config.hiddenSize)
  const quiet = createOurs({ shape: name, config, weights, hidden, threads, directory: '' }, dtype)
  for (const numTokens of tokens) {
    const watch = watchLoad(loop.cpuMs)
    const [calm, pressed] = await runRounds([quiet, whileBusy(quiet, loop)], numTokens, {
      rounds: Number(options.rounds),
      blockMs: 150,
    })
    const foreignCores = watch.stop()
    const row: ContentionRow = {
      ...{ shape: name, dtype, numTokens, threads },
      quietMs: median(calm!.rounds),
      busyMs: median(pressed!.rounds),
      ratio: ratioOf(pressed!.rounds, calm!.rounds),
      foreignCores,
      disturbed: (foreignCores ?? 0) > DISTURBED_CORES,
    }
    rows.push(row)
    print(row)
  }
  await quiet.close()
}

/** The same peer, its calls made while the loop runs. */
function whileBusy(peer: Peer, busy: BusyLoop): Peer {
  return {
    ...peer,
    async times(numTokens, first, calls) {
      busy.resume()
      try {
        return await peer.times(numTokens, first, calls)
      } finally {
        busy.pause()
      }
    },
  }
}

function print({
  shape,
  dtype,
  numTokens,
  quietMs,
  busyMs,
  ratio,
  disturbed,
  foreignCores,
}: ContentionRow): void {
  console.log(
    `${`${shape} ${dtype}`.padEnd(24)}${`T=${numTokens}`.padStart(7)}  quiet ${formatDuration(quietMs).padStart(8)}` +
      `  busy ${formatDuration(busyMs).padStart(8)}  ${formatNumber(ratio.median)}×` +
      ` (${formatNumber(ratio.low)}–${formatNumber(ratio.high)})` +
      (disturbed ? `  ~ ${formatNumber(foreignCores ?? 0)} cores of other load` : ''),
  )
}
