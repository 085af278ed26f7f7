/** The bars beside peers: their time over ours, from one interleaved run. */

import { formatNumber } from '../../lib/cli/format.js'
import type { PeerRow } from '../peers/peers-results.js'
import { groupBy } from '../report/tables.js'
import { type Bar, caseName } from './goal.js'

interface PeerBar {
  numTokens: readonly number[]
  group: 'f32' | 'bf16'
  ratio: number
  /** Which peers count; the fastest of them decides. */
  among: (peer: PeerRow) => boolean
  name: string
}

/** Where a bar names one peer, all that stand beside it count: no bar holds because its named peer is slow here. */
const PEER_BARS: readonly PeerBar[] = [
  {
    ...{ numTokens: [1, 8], group: 'f32', ratio: 1.15, name: 'onnxruntime-node' },
    among: ({ peer }) => peer.startsWith('onnxruntime'),
  },
  { numTokens: [64], group: 'bf16', ratio: 1.4, among: () => true, name: 'the best peer' },
  { numTokens: [64], group: 'f32', ratio: 1.25, among: () => true, name: 'the best peer' },
  { numTokens: [512], group: 'bf16', ratio: 1.2, among: () => true, name: 'the best peer' },
  { numTokens: [512], group: 'f32', ratio: 1.15, among: () => true, name: 'the best peer' },
]

export function judgePeers(rows: readonly PeerRow[]): Bar[] {
  const cases = groupBy(rows, row => [row.group, row.shape, row.threads, row.numTokens].join(' '))
  return PEER_BARS.flatMap(({ numTokens, group, ratio, among, name }) =>
    cases.flatMap(([, peers]) => {
      const ours = peers.find(({ peer }) => peer === 'sparse-experts')
      if (!ours || ours.group !== group || !numTokens.includes(ours.numTokens)) return []
      const counting = peers.filter(peer => peer !== ours && among(peer))
      const best = counting.sort((a, b) => a.ratio.median - b.ratio.median)[0]
      if (!best) return []
      return [
        {
          bar: `faster than ${name}, T=${ours.numTokens} ${group}`,
          what: caseName(ours),
          measured: `${formatNumber(best.ratio.median)}× ${best.peer} ${best.dtype}`,
          needed: `≥ ${ratio}×`,
          holds: best.ratio.median >= ratio,
          disturbed: best.disturbed,
        },
      ]
    }),
  )
}
