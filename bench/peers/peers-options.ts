/** The command line of `npm run bench:peers`. */

import { matching, numbers, parseValues, words } from '../harness/command-line.js'
import { BENCH_SHAPES, type BenchShape } from '../harness/shapes.js'
import { MODEL_FORMS, type ModelForm } from './llama/model.js'

/** Peers that are measured against each other; see groups.ts. */
export type PeerGroup = 'f32' | 'bf16' | 'int8' | 'int4' | 'activations'
/** `context`: a whole-model engine, which stands beside no layer. */
export type PeerPart = PeerGroup | 'context'

export const PEERS_USAGE = `npm run bench:peers -- [options]: the same layer through this package and through what a Node user could take instead
  --filter A,B    shapes whose name contains one of these words (default: DeepSeek-V2-Lite,OLMoE,Qwen3-30B,small)
  --tokens A,B    rows of a call (default: 1,8,64,512)
  --threads A,B   threads of every peer (default: all cores)
  --only A,B      f32, bf16, int8, int4, activations (int8 ones beside exact ones), context (a whole-model engine, per layer; default: all)
  --form A,B      of the whole-model engine's weights: bf16, q4_0, q4_K, mxfp4, q8_0 (default: all)
  --rounds N      (default: 5)
  --block MS      calls of one peer in one round (default: 150)
  --retries N     repeats of all rounds when other load disturbed them (default: 1)
  --json FILE     writes the results
  --quick         the small shape, once: do the peers run?`

export interface PeersOptions {
  shapes: BenchShape[]
  tokens: number[]
  /** 0: all cores. */
  threads: number[]
  parts: PeerPart[]
  forms: ModelForm[]
  rounds: number
  blockMs: number
  retries: number
  json?: string
  quick: boolean
}

const PARTS: readonly PeerPart[] = ['f32', 'bf16', 'int8', 'int4', 'activations', 'context']
/** Are the peers alive? The engine is large to install. */
const QUICK_PARTS: readonly PeerPart[] = ['f32', 'bf16', 'int8', 'int4', 'activations']
/** A rank of an expert-parallel group has no gate: no peer can be handed its ids. */
const SHAPES = BENCH_SHAPES.filter(shape => shape.expertsOfAllRanks === undefined)
const DEFAULT_SHAPES = 'DeepSeek-V2-Lite,OLMoE,Qwen3-30B,small'

/** @throws UsageError for a word that means nothing */
export function parsePeersOptions(args: readonly string[]): PeersOptions {
  const names = ['filter', 'tokens', 'threads', 'only', 'form', 'rounds', 'block', 'retries', 'json'] as const
  const values = parseValues(args, names)
  const { quick } = values
  const chosen = matching(
    values.filter ?? (quick ? 'small' : DEFAULT_SHAPES),
    SHAPES.map(({ name }) => name),
  )
  const number = (name: 'rounds' | 'block' | 'retries', otherwise: number) =>
    numbers(name, values[name], name === 'retries' ? 0 : 1)?.[0] ?? otherwise
  return {
    shapes: SHAPES.filter(({ name }) => chosen.includes(name)),
    tokens: numbers('tokens', values.tokens, 1) ?? (quick ? [1, 64] : [1, 8, 64, 512]),
    threads: numbers('threads', values.threads, 0) ?? [0],
    forms: words('form', values.form, MODEL_FORMS) ?? [...MODEL_FORMS],
    parts: words('only', values.only, PARTS) ?? [...(quick ? QUICK_PARTS : PARTS)],
    rounds: number('rounds', quick ? 1 : 5),
    blockMs: number('block', quick ? 20 : 150),
    retries: number('retries', quick ? 0 : 1),
    json: values.json,
    quick,
  }
}
