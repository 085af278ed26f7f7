/** The benchmarks that the goals are judged by, as command lines: each runs in a process of its own and leaves its results as JSON. */

import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { isStoredForm, type WeightKind } from '../harness/weight-kinds.js'
import { MODEL_FORMS } from '../peers/llama/model.js'
import type { PeerGroup } from '../peers/peers-options.js'
import type { GoalsOptions, Part } from './goals-options.js'

const bench = path.resolve(import.meta.dirname, '..')

/** Which groups of peers stand beside a kind of weights: int4 and int8 have the bits of Q4_0 and Q8_0. No peer computes in f16. */
const PEER_GROUPS: Partial<Record<WeightKind, readonly PeerGroup[]>> = {
  ...{ f32: ['f32'], bf16: ['bf16'] },
  ...{ q4_0: ['int4', 'activations'], q8_0: ['int8'] },
}

/** Script and arguments of a part, less the file of its results; null where there is nothing to run. */
export function commandOf(part: Part, options: GoalsOptions): { script: string; args: string[] } | null {
  const { shapes, dtypes, threads, rounds, retries, quick } = options
  const floats = dtypes.filter(dtype => !isStoredForm(dtype))
  const list = (values: readonly (string | number)[]) => values.join(',')
  const repeats = ['--rounds', String(rounds), '--retries', String(retries)]
  const filter = ['--filter', list(shapes)]
  const tokens = (full: number[], short: number[]) => ['--tokens', list(quick ? short : full)]
  const cells = ['--device', 'cpu', '--load', 'gate', '--dense', 'off', '--retries', String(retries)]
  const time = ['--time', quick ? '20' : '400']
  switch (part) {
    case 'shares':
    case 'load':
      return {
        script: 'goals/measure-shares-and-load.ts',
        args: [
          ...['--only', part, ...filter, '--dtype', list(dtypes), '--threads', list(threads), ...repeats],
          ...(quick ? ['--quick'] : []),
        ],
      }
    case 'peers': {
      const groups = dtypes.flatMap(dtype => PEER_GROUPS[dtype] ?? [])
      if (groups.length === 0) return null
      const args = [...filter, '--only', list(groups), ...tokens([1, 8, 64, 512], [1, 64]), ...repeats]
      return { script: 'peers/measure-peers.ts', args: [...args, ...(quick ? ['--block', '20'] : [])] }
    }
    case 'engine': {
      const forms = MODEL_FORMS.filter(form => dtypes.includes(form))
      if (forms.length === 0) return null
      const args = [...filter, '--only', 'context', '--form', list(forms), '--threads', list(threads)]
      return {
        script: 'peers/measure-peers.ts',
        args: [...args, ...tokens([1, 8, 64, 512], [1, 64]), ...repeats, ...(quick ? ['--block', '20'] : [])],
      }
    }
    case 'contention':
      if (floats.length === 0) return null
      return {
        script: 'layer/measure-contention.ts',
        args: [...filter, '--dtype', list(floats), ...tokens([1, 8, 64, 512], [8]), ...repeats],
      }
    case 'cells':
      if (floats.length === 0) return null
      return {
        script: 'layer/measure-layers.ts',
        args: [
          ...filter,
          ...cells,
          ...['--stages', 'off', '--dtype', list(floats)],
          ...tokens([1, 64, 128, 512, 2048], [1, 64, 128, 256]),
          ...time,
        ],
      }
    case 'sweep':
      if (floats.length === 0) return null
      return {
        script: 'layer/measure-layers.ts',
        args: [
          ...['--sweep', 'experts', ...(quick ? ['--filter', 'E8,E16,E32'] : []), ...cells],
          ...['--stages', 'off', '--dtype', list(floats), ...tokens([1, 64], [1]), ...time],
        ],
      }
  }
}

/** @throws when it fails: goals that were not measured must not look like goals that hold */
export function runPart(part: Part, options: GoalsOptions, directory: string): void {
  const found = commandOf(part, options)
  if (!found) return
  const { script, args } = found
  const date = new Date().toISOString().slice(0, 10)
  const file = path.resolve(directory, `${date}-goals-${part}.json`)
  // This process' own flags: the loader of TypeScript, and a garbage collector that can be called.
  const command = [...process.execArgv, path.join(bench, script), ...args, '--json', file]
  const { status, error } = spawnSync(process.execPath, command, { stdio: 'inherit' })
  if (error || status !== 0) throw new Error(`${part} failed: ${error?.message ?? `status ${status}`}`)
}
