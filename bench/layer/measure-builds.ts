/**
 * `npm run bench:builds -- --before DIRECTORY`: this build beside another one, in one process and turn by turn, so that a change is
 * judged by a ratio and not by two tables from different hours. Layers are made anew for each of `--layers`: where their pages lie differs
 * from layer to layer by more than most changes gain.
 */

import path from 'node:path'
import { formatDuration, formatNumber } from '../../lib/cli/format.js'
import {
  DTYPES,
  matching,
  numbers,
  parseValues,
  runCommand,
  UsageError,
  words,
} from '../harness/command-line.js'
import { environment } from '../harness/machine.js'
import type { MoeLayer } from '../harness/package.js'
import type { Peer } from '../harness/peer.js'
import { median } from '../harness/rounds.js'
import { BENCH_SHAPES, type BenchShape } from '../harness/shapes.js'
import { compareBuilds, importBuild } from './compare-builds.js'

const USAGE = `npm run bench:builds -- --before DIRECTORY [options]: this build over another one, after \`npm ci\` there
  --before DIR    the other checkout
  --filter A,B    shapes whose name contains one of these words (default: small)
  --dtype A,B     f32, bf16, f16, or int8, int4: bf16 with weights quantised while the layer is made (default: bf16,f32)
  --tokens A,B    rows of a call (default: 1,8,64,512)
  --layers N      layers made of each build (default: 5)
  --rounds N      for each of them (default: 8)
  --threads N     (default: all)`

const QUANTISED = ['int8', 'int4'] as const

function parseBuildsOptions(args: readonly string[]) {
  const values = parseValues(args, ['before', 'filter', 'dtype', 'tokens', 'layers', 'rounds', 'threads'])
  if (values.before === undefined) throw new UsageError('--before names the other checkout')
  const shapes = BENCH_SHAPES.filter(shape => shape.expertsOfAllRanks === undefined)
  const names = shapes.map(({ name }) => name)
  const chosen = matching(values.filter ?? 'small', names)
  return {
    before: path.resolve(values.before),
    shapes: shapes.filter(({ name }) => chosen.includes(name)),
    dtypes: words('dtype', values.dtype, [...DTYPES, ...QUANTISED]) ?? (['bf16', 'f32'] as const),
    tokens: numbers('tokens', values.tokens, 1) ?? [1, 8, 64, 512],
    layers: numbers('layers', values.layers, 1)?.[0] ?? 5,
    rounds: numbers('rounds', values.rounds, 1)?.[0] ?? 8,
    threads: numbers('threads', values.threads, 1)?.[0] ?? environment().cores,
  }
}

type BuildsOptions = ReturnType<typeof parseBuildsOptions>

async function main(options: BuildsOptions): Promise<void> {
  const { before, shapes, dtypes } = options
  const other = await importBuild(before)
  console.log(`${environment().cpu}, ${options.threads} threads; before: ${before}`)
  for (const shape of shapes) for (const dtype of dtypes) await compare(shape, dtype, other, options)
}

async function compare(
  shape: BenchShape,
  dtype: Peer['dtype'],
  other: typeof MoeLayer,
  options: BuildsOptions,
): Promise<void> {
  for (const { numTokens, now, earlier, ratios } of await compareBuilds(shape, dtype, other, options)) {
    console.log(
      `${`${shape.name} ${dtype}`.padEnd(24)}${`T=${numTokens}`.padStart(7)}  before ${formatDuration(median(earlier)).padStart(8)}` +
        `  now ${formatDuration(median(now)).padStart(8)}  ${formatNumber(median(ratios))}×` +
        ` (${formatNumber(Math.min(...ratios))}–${formatNumber(Math.max(...ratios))})`,
    )
  }
}

await runCommand(USAGE, args => main(parseBuildsOptions(args)))
