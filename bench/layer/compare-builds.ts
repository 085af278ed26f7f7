/** Calls of layers of two builds in one process, turn by turn. */

import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { Random } from '../../test/cases/random.js'
import { DTYPES } from '../harness/command-line.js'
import { randomHidden } from '../harness/inputs.js'
import { createOurs } from '../harness/our-layer.js'
import type { MoeLayer } from '../harness/package.js'
import type { Peer } from '../harness/peer.js'
import { median, ratioOf, runRounds } from '../harness/rounds.js'
import type { BenchShape } from '../harness/shapes.js'
import { makeBenchWeights } from '../harness/weights.js'

/** Of one number of rows: a figure for each layer that was made, all of them medians of its rounds. */
export interface ComparedCalls {
  numTokens: number
  now: number[]
  earlier: number[]
  /** Now over earlier: below 1 this build is faster. */
  ratios: number[]
}

/** `MoeLayer` of another checkout, after `npm ci` there. */
export async function importBuild(directory: string): Promise<typeof MoeLayer> {
  const file = pathToFileURL(path.join(directory, 'dist/index.js')).href
  return ((await import(file)) as { MoeLayer: typeof MoeLayer }).MoeLayer
}

/** @param options.layers made of each build: where their pages lie differs from layer to layer by more than most changes gain */
export async function compareBuilds(
  { name, config }: BenchShape,
  dtype: Peer['dtype'],
  other: typeof MoeLayer,
  options: { tokens: readonly number[]; layers: number; rounds: number; threads: number },
): Promise<ComparedCalls[]> {
  const { tokens, layers, rounds, threads } = options
  const { weights } = makeBenchWeights({ name, config }, DTYPES.find(name => name === dtype) ?? 'bf16')
  const numRows = Math.max(256, 2 * Math.max(...tokens))
  const hidden = randomHidden(new Random(3), numRows, config.hiddenSize)
  const layer = { shape: name, config, weights, hidden, threads, directory: '' }
  const compared = tokens.map((numTokens): ComparedCalls => ({ numTokens, now: [], earlier: [], ratios: [] }))
  for (let made = 0; made < layers; made++) {
    // Who is made first gets the pages that are left from before.
    const order = made % 2 === 0 ? [undefined, other] : [other, undefined]
    const peers = order.map(build => createOurs(layer, dtype, build))
    for (const cell of compared) {
      const measured = await runRounds(peers, cell.numTokens, { rounds, blockMs: 100 })
      const [now, earlier] = (made % 2 === 0 ? measured : measured.reverse()).map(peer => peer.rounds)
      cell.now.push(median(now!))
      cell.earlier.push(median(earlier!))
      cell.ratios.push(ratioOf(now!, earlier!).median)
    }
    for (const peer of peers) await peer.close()
  }
  return compared
}
