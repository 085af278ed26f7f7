/** The command line of `npm run bench`, checked: a word that means nothing is an error, not an empty table. */

import { isOn, matching, numbers, parseValues, words } from '../harness/command-line.js'
import type { BenchLoad } from '../harness/load.js'
import { BENCH_SHAPES, type BenchShape, EXPERT_SWEEP } from '../harness/shapes.js'
import { WEIGHT_KINDS, type WeightKind } from '../harness/weight-kinds.js'

export const USAGE = `npm run bench -- [options]
  --filter A,B      shapes whose name contains one of these words (default: all)
  --sweep experts   instead of the models, one shape with 8 to 512 experts
  --device A,B      reference, cpu, cuda (default: all that serve; the others are named as not measured)
  --dtype A,B       f32, bf16, f16, or what the weights are stored in: q4_0, q4_K, mxfp4, q8_0, fp8 (default: all)
  --tokens A,B      rows of a call (default: 1,2,4,8,16,32,64,128,512,2048)
  --load A,B        gate (the random router runs), uniform, zipf, same_experts, traced (replayed; default: gate,uniform,zipf,traced)
  --threads A,B     threads per forward (default: all cores)
  --stages on|off   the five stages one by one as well (default: on)
  --dense on|off    a dense layer of all the experts as well, the ratio's other side (default: on)
  --time MS         per cell (default: 400)
  --retries N       repeats of a cell that other load disturbed (default: 2)
  --json FILE       writes the results
  --compare FILE    ratios to an earlier --json
  --quick           a few cells of the small shape: is the benchmark alive?`

export interface BenchOptions {
  shapes: string[]
  devices: string[]
  dtypes: WeightKind[]
  tokens: number[]
  loads: BenchLoad[]
  /** 0: all cores. */
  threads: number[]
  stages: boolean
  dense: boolean
  timeMs: number
  retries: number
  json?: string
  compare?: string
  quick: boolean
}

const LOADS: readonly BenchLoad[] = ['gate', 'uniform', 'zipf', 'same_experts', 'traced']
const DEFAULT_LOADS: readonly BenchLoad[] = ['gate', 'uniform', 'zipf', 'traced']
const DEVICES = ['reference', 'cpu', 'cuda']
const NAMES = [
  ...(['filter', 'sweep', 'device', 'dtype', 'tokens', 'load', 'threads'] as const),
  ...(['stages', 'dense', 'time', 'retries', 'json', 'compare'] as const),
]

/** @throws UsageError for a word that means nothing */
export function parseOptions(args: readonly string[]): BenchOptions {
  const values = parseValues(args, NAMES)
  const { quick } = values
  const isSweep = words('sweep', values.sweep, ['experts']) !== undefined
  const shapes: readonly BenchShape[] = isSweep ? EXPERT_SWEEP : BENCH_SHAPES
  return {
    shapes: matching(
      values.filter ?? (quick && !isSweep ? 'small' : ''),
      shapes.map(shape => shape.name),
    ),
    devices: words('device', values.device, DEVICES) ?? DEVICES,
    dtypes: words('dtype', values.dtype, WEIGHT_KINDS) ?? [...WEIGHT_KINDS],
    tokens:
      numbers('tokens', values.tokens, 1) ?? (quick ? [1, 64] : [1, 2, 4, 8, 16, 32, 64, 128, 512, 2048]),
    loads: words('load', values.load, LOADS) ?? [...DEFAULT_LOADS],
    threads: numbers('threads', values.threads, 0) ?? [0],
    stages: isOn('stages', values.stages),
    dense: isOn('dense', values.dense),
    timeMs: numbers('time', values.time, 1)?.[0] ?? (quick ? 40 : 400),
    retries: numbers('retries', values.retries, 0)?.[0] ?? (quick ? 0 : 2),
    json: values.json,
    compare: values.compare,
    quick,
  }
}
