/** One shape through the peers of one group: makes them, measures them in rounds, compares outputs, gives rows. */

import { formatDuration, formatError } from '../../lib/cli/format.js'
import { relativeError } from '../../lib/devices/accuracy.js'
import { isDisturbed, leastDisturbed, watchLoad } from '../harness/other-load.js'
import type { Peer, PeerLayer } from '../harness/peer.js'
import { median, ratioOf, runRounds } from '../harness/rounds.js'
import type { Maker } from './peer-groups.js'
import type { PeersOptions } from './peers-options.js'
import type { PeerResults, PeerRow } from './peers-results.js'

/** Farther from ours in f32 than rounding and quantizing explain: another layer, whose speed says nothing. */
const MAX_ERROR: Record<Peer['dtype'], number> = { f32: 1e-4, bf16: 2e-2, f16: 2e-2, int8: 5e-2, int4: 0.3 }

export interface Compared {
  rows: PeerRow[]
  notMeasured: PeerResults['notMeasured']
  /** A peer computed something else. */
  isWrong: boolean
}

/** @param expected ours in f32 for input 0, by number of tokens */
export async function comparePeers(
  layer: PeerLayer,
  group: string,
  makers: readonly Maker[],
  options: PeersOptions,
  expected: ReadonlyMap<number, Float32Array>,
  onRow: (row: PeerRow) => void,
): Promise<Compared> {
  const compared: Compared = { rows: [], notMeasured: [], isWrong: false }
  const peers: Peer[] = []
  try {
    for (const [what, make] of makers) {
      try {
        peers.push(await make(layer))
      } catch (error) {
        const reason = (error as Error).message.split('\n')[0]!
        compared.notMeasured.push({ what: `${layer.shape} ${what}`, reason })
      }
    }
    for (const numTokens of options.tokens) {
      const { times, foreignCores } = await measure(peers, numTokens, options)
      for (const [index, peer] of peers.entries()) {
        const { rounds, callMs } = times[index]!
        const what = `${layer.shape} ${peer.name} ${peer.dtype} T=${numTokens}`
        if (rounds.length === 0) {
          compared.notMeasured.push({ what, reason: `slow: a call took ${formatDuration(callMs)}` })
          continue
        }
        const outputError = relativeError(await peer.output(numTokens), expected.get(numTokens)!)
        // Said this way round, a NaN is wrong too.
        if (!(outputError < MAX_ERROR[peer.dtype])) {
          const reason = `computes something else: relative error ${formatError(outputError)}`
          compared.notMeasured.push({ what, reason })
          compared.isWrong = true
          continue
        }
        const medianMs = median(rounds)
        const row: PeerRow = {
          ...{ shape: layer.shape, numTokens, threads: layer.threads, group },
          ...{ peer: peer.name, dtype: peer.dtype, medianMs },
          tokensPerSecond: (1000 * numTokens) / medianMs,
          ratio: ratioOf(rounds, times[0]!.rounds),
          ...{ outputError, foreignCores, disturbed: isDisturbed(foreignCores) },
        }
        compared.rows.push(row)
        onRow(row)
      }
    }
  } finally {
    for (const peer of peers) await peer.close()
  }
  return compared
}

/** All rounds again where other load was there. */
function measure(peers: readonly Peer[], numTokens: number, { rounds, blockMs, retries }: PeersOptions) {
  const childrenCpuMs = () => peers.reduce((sum, peer) => sum + (peer.cpuMs?.() ?? 0), 0)
  return leastDisturbed(retries, async () => {
    const watch = watchLoad(childrenCpuMs)
    const times = await runRounds(peers, numTokens, { rounds, blockMs })
    return { times, foreignCores: watch.stop() }
  })
}
