/** The goals beside peers: their time over ours, from one interleaved run. The fastest peer that stands beside ours decides. */

import { formatNumber } from '../../lib/cli/format.js'
import { groupBy } from '../harness/tables.js'
import type { PeerRow } from '../peers/peers-results.js'
import { PEER_GOALS } from './goals.js'
import { caseName, type Verdict } from './verdict.js'

export function judgePeers(rows: readonly PeerRow[]): Verdict[] {
  const cases = groupBy(rows, row => [row.group, row.shape, row.threads, row.numTokens].join(' '))
  return PEER_GOALS.flatMap(({ numTokens, group, ratio, peers: prefix, name }) =>
    cases.flatMap(([, peers]) => {
      const ours = peers.find(({ peer }) => peer === 'sparse-experts')
      if (!ours || ours.group !== group || !numTokens.includes(ours.numTokens)) return []
      const counting = peers.filter(peer => peer !== ours && peer.peer.startsWith(prefix))
      const best = counting.sort((a, b) => a.ratio.median - b.ratio.median)[0]
      if (!best) return []
      return [
        {
          goal: `faster than ${name}, T=${ours.numTokens} ${group}`,
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
