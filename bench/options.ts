/** The command line of `npm run bench`, checked: a word that means nothing is an error, not an empty table. */

import { parseArgs } from 'node:util'
import type { DType } from '../lib/index.js'
import { BENCH_SHAPES, type BenchShape, EXPERT_SWEEP } from './shapes.js'

export const USAGE = `npm run bench -- [options]
  --filter A,B      shapes whose name contains one of these words (default: all)
  --sweep experts   instead of the models, one shape with 8 to 512 experts
  --device A,B      reference, cpu, cuda (default: all that serve; the others are named as not measured)
  --dtype A,B       f32, bf16, f16 (default: all)
  --tokens A,B      rows of a call (default: 1,2,4,8,16,32,64,128,512,2048)
  --load A,B        gate (the random router runs), uniform, zipf, same_experts, traced (replayed; default: gate,zipf,traced)
  --threads A,B     threads per forward (default: all cores)
  --stages on|off   the five stages one by one as well (default: on)
  --dense on|off    a dense layer of all the experts as well, the ratio's other side (default: on)
  --time MS         per cell (default: 400)
  --retries N       repeats of a cell that other load disturbed (default: 2)
  --json FILE       writes the results
  --compare FILE    ratios to an earlier --json
  --quick           a few cells of the small shape: is the benchmark alive?`

/** Where tokens go: `gate` runs the random router, all others replay a recorded routing. */
export type BenchLoad = 'gate' | 'uniform' | 'zipf' | 'same_experts' | 'traced'

export interface BenchOptions {
  shapes: string[]
  devices: string[]
  dtypes: DType[]
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

const DTYPES = ['f32', 'bf16', 'f16']
const LOADS = ['gate', 'uniform', 'zipf', 'same_experts', 'traced']
const DEVICES = ['reference', 'cpu', 'cuda']

/** What a wrong command line gets instead of a stack. */
export class UsageError extends Error {}

/** @throws {@link UsageError} */
export function parseOptions(args: readonly string[]): BenchOptions {
  const text = { type: 'string' } as const
  const { values } = tryParse(() =>
    parseArgs({
      args: [...args],
      options: {
        filter: text,
        sweep: text,
        device: text,
        dtype: text,
        tokens: text,
        load: text,
        threads: text,
        stages: text,
        dense: text,
        time: text,
        retries: text,
        json: text,
        compare: text,
        quick: { type: 'boolean', default: false },
      },
    }),
  )
  const quick = values.quick ?? false
  return {
    shapes: chooseShapes(
      values.filter ?? (quick ? 'small' : ''),
      words('sweep', values.sweep, ['experts']) === undefined ? BENCH_SHAPES : EXPERT_SWEEP,
    ),
    devices: words('device', values.device, DEVICES) ?? DEVICES,
    dtypes: (words('dtype', values.dtype, DTYPES) ?? DTYPES) as DType[],
    tokens:
      numbers('tokens', values.tokens, 1) ?? (quick ? [1, 64] : [1, 2, 4, 8, 16, 32, 64, 128, 512, 2048]),
    loads: (words('load', values.load, LOADS) ?? ['gate', 'zipf', 'traced']) as BenchLoad[],
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

function tryParse<T>(parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

const split = (value: string) => value.split(',').filter(Boolean)

function words(name: string, value: string | undefined, known: readonly string[]): string[] | undefined {
  if (value === undefined) return undefined
  const chosen = split(value)
  const wrong = chosen.find(word => !known.includes(word))
  if (wrong !== undefined || chosen.length === 0) {
    throw new UsageError(`--${name} takes ${known.join(', ')}; got '${wrong ?? value}'`)
  }
  return [...new Set(chosen)]
}

function numbers(name: string, value: string | undefined, least: number): number[] | undefined {
  if (value === undefined) return undefined
  const chosen = split(value).map(Number)
  if (chosen.length === 0 || !chosen.every(number => Number.isInteger(number) && number >= least)) {
    throw new UsageError(`--${name} takes whole numbers from ${least}; got '${value}'`)
  }
  return [...new Set(chosen)]
}

function isOn(name: string, value: string | undefined): boolean {
  return words(name, value, ['on', 'off'])?.[0] !== 'off'
}

function chooseShapes(filter: string, shapes: readonly BenchShape[]): string[] {
  const wanted = split(filter).map(word => word.toLowerCase())
  const names = shapes.map(shape => shape.name)
  const chosen =
    wanted.length === 0 ? names : names.filter(name => wanted.some(word => name.toLowerCase().includes(word)))
  if (chosen.length === 0) throw new UsageError(`--filter ${filter} matches none of ${names.join(', ')}`)
  return chosen
}
