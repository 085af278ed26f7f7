/**
 * `npm run bench:contention`: what one busy loop on one core costs a forward that may use all of them: a server seldom has its cores to
 * itself. With static shares and spinning barriers everybody waits for the thread on that core; with N cores the fair cost is at most the
 * share of one core plus what its last piece of work takes. Rounds alternate between quiet and busy in one run; the ratio is the median
 * of the rounds' ratios.
 */

import { formatDuration, formatNumber } from '../../lib/cli/format.js'
import { Random } from '../../test/cases/random.js'
import { DTYPES, matching, numbers, parseValues, runCommand, words } from '../harness/command-line.js'
import { randomHidden } from '../harness/inputs.js'
import { environment } from '../harness/machine.js'
import { isDisturbed, leastDisturbed, watchLoad } from '../harness/other-load.js'
import { createOurs } from '../harness/our-layer.js'
import type { DType } from '../harness/package.js'
import type { Peer } from '../harness/peer.js'
import { disturbance } from '../harness/result-lines.js'
import { type ContentionResults, type ContentionRow, revision, writeResults } from '../harness/results.js'
import { median, ratioOf, runRounds } from '../harness/rounds.js'
import { BENCH_SHAPES, type BenchShape } from '../harness/shapes.js'
import { makeBenchWeights } from '../harness/weights.js'
import { type BusyLoop, startBusyLoop } from './busy-loop.js'

const USAGE = `npm run bench:contention -- [options]: a layer with and without a busy loop on one of the cores
  --filter A,B    shapes whose name contains one of these words (default: small,OLMoE)
  --dtype A,B     f32, bf16, f16 (default: bf16,f32)
  --tokens A,B    rows of a call (default: 1,8,64,512)
  --rounds N      (default: 5)
  --retries N     repeats of all rounds when other load than the loop was there (default: 2)
  --json FILE     writes the results
  --quick         one cell of the small shape: is it alive?`

/** A rank of an expert-parallel group has no gate. */
const SHAPES = BENCH_SHAPES.filter(shape => shape.expertsOfAllRanks === undefined)

function parseContentionOptions(args: readonly string[]) {
  const values = parseValues(args, ['filter', 'dtype', 'tokens', 'rounds', 'retries', 'json'])
  const { quick, json } = values
  const chosen = matching(
    values.filter ?? (quick ? 'small' : 'small,OLMoE'),
    SHAPES.map(({ name }) => name),
  )
  return {
    shapes: SHAPES.filter(({ name }) => chosen.includes(name)),
    dtypes:
      words('dtype', values.dtype, DTYPES) ?? (quick ? ['bf16' as const] : ['bf16' as const, 'f32' as const]),
    tokens: numbers('tokens', values.tokens, 1) ?? (quick ? [8] : [1, 8, 64, 512]),
    rounds: numbers('rounds', values.rounds, 1)?.[0] ?? (quick ? 1 : 5),
    retries: numbers('retries', values.retries, 0)?.[0] ?? (quick ? 0 : 2),
    blockMs: quick ? 20 : 150,
    json,
  }
}

type ContentionOptions = ReturnType<typeof parseContentionOptions>

async function main(options: ContentionOptions): Promise<void> {
  const machine = environment()
  const rows: ContentionRow[] = []
  const loop = await startBusyLoop(machine.cores - 1)
  try {
    console.log(`${machine.cpu}, ${machine.cores} threads, a busy loop on core ${machine.cores - 1}`)
    for (const shape of options.shapes) {
      for (const dtype of options.dtypes) {
        rows.push(...(await measureLayer(shape, dtype, machine.cores, loop, options)))
      }
    }
  } finally {
    await loop.stop()
  }
  if (!options.json) return
  const results: ContentionResults = {
    ...{ benchmark: 'sparse-experts contention', date: new Date().toISOString(), revision: revision() },
    ...{ environment: machine, rows },
  }
  writeResults(options.json, results)
}

async function measureLayer(
  { name, config }: BenchShape,
  dtype: DType,
  threads: number,
  loop: BusyLoop,
  { tokens, rounds, retries, blockMs }: ContentionOptions,
): Promise<ContentionRow[]> {
  const { weights } = makeBenchWeights({ name, config }, dtype)
  const numRows = Math.max(256, 2 * Math.max(...tokens))
  const hidden = randomHidden(new Random(3), numRows, config.hiddenSize)
  const quiet = createOurs({ shape: name, config, weights, hidden, threads, directory: '' }, dtype)
  const rows: ContentionRow[] = []
  for (const numTokens of tokens) {
    const { calm, pressed, foreignCores } = await leastDisturbed(retries, async () => {
      const watch = watchLoad(loop.cpuMs)
      const times = await runRounds([quiet, whileBusy(quiet, loop)], numTokens, { rounds, blockMs })
      return { calm: times[0]!.rounds, pressed: times[1]!.rounds, foreignCores: watch.stop() }
    })
    const row: ContentionRow = {
      ...{ shape: name, dtype, numTokens, threads },
      ...{ quietMs: median(calm), busyMs: median(pressed), ratio: ratioOf(pressed, calm) },
      ...{ foreignCores, disturbed: isDisturbed(foreignCores) },
    }
    rows.push(row)
    print(row)
  }
  await quiet.close()
  return rows
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

function print(row: ContentionRow): void {
  const { shape, dtype, numTokens, quietMs, busyMs, ratio } = row
  console.log(
    `${`${shape} ${dtype}`.padEnd(24)}${`T=${numTokens}`.padStart(7)}  quiet ${formatDuration(quietMs).padStart(8)}` +
      `  busy ${formatDuration(busyMs).padStart(8)}  ${formatNumber(ratio.median)}×` +
      ` (${formatNumber(ratio.low)}–${formatNumber(ratio.high)})${disturbance(row)}`,
  )
}

await runCommand(USAGE, args => main(parseContentionOptions(args)))
