/** Sets results beside the goals of goals.ts. Pure: the same results give the same verdicts. */

import { formatNumber, formatPercent } from '../../lib/cli/format.js'
import { isExpertSweep } from '../harness/shapes.js'
import type { Collected } from './collect.js'
import {
  MAX_ASYNC_US,
  MAX_CONTENTION,
  MAX_LOAD_BYTES,
  MAX_SKEW,
  MAX_SYNC_US,
  MIN_LOAD_SPEED,
  SHARE_GOALS,
} from './goals.js'
import { judgeGrowth } from './judge-growth.js'
import { judgePeers } from './judge-peers.js'
import { judgeStages } from './judge-stages.js'
import { caseName, type Verdict } from './verdict.js'

/** Everything that was measured, in the order of the goals; what is missing was not measured. */
export function judge(collected: Collected): Verdict[] {
  const verdicts = [
    ...judgeShares(collected),
    ...judgePeers(collected.peerRows),
    ...judgeSkew(collected),
    ...judgeContention(collected),
    ...judgeStages(collected.rows),
    ...judgeCalls(collected),
    ...judgeLoad(collected),
    ...judgeGrowth(collected),
  ]
  // Stable: rows of one goal stay together in the order they came.
  const names = [...new Set(verdicts.map(({ goal }) => goal))]
  return names.flatMap(name => verdicts.filter(({ goal }) => goal === name))
}

function judgeShares({ shares, machine }: Collected): Verdict[] {
  return shares.flatMap(row => {
    const goal = SHARE_GOALS.find(({ numTokens }) => numTokens === row.numTokens)
    const least = goal?.share[row.dtype]
    if (!goal || least === undefined) return []
    // The best that there is for a dtype without a unit of its own.
    const widened = row.dtype === 'bf16' && row.numTokens === 512 && !machine?.bf16Instruction
    return [
      {
        goal: `share of the ${goal.of}, T=${row.numTokens}`,
        what: caseName(row) + (widened ? ' (no bf16 unit: of the f32 FMA peak)' : ''),
        measured: `${formatPercent(row.share.median)}${row.bound === 'compute' && row.numTokens <= 8 ? ' (bound by arithmetic)' : ''}`,
        needed: `≥ ${formatPercent(least)}`,
        holds: row.share.median >= least,
        disturbed: row.disturbed,
      },
    ]
  })
}

const LOADS = { zipf: 'Zipf', same_experts: 'all on k' }

function judgeSkew({ skews }: Collected): Verdict[] {
  return skews.map(row => {
    // More bytes or FLOPs may cost their time; fewer must not cost more than none saved.
    const most = Math.max(1, row.least) * MAX_SKEW
    return {
      goal: 'skewed over uniform routing, beyond bytes and FLOPs',
      what: `${LOADS[row.load]}, ${caseName(row)}`,
      measured: `${formatNumber(row.ratio.median)}× (least ${formatNumber(row.least)}×)`,
      needed: `≤ ${formatNumber(most)}×`,
      holds: row.ratio.median <= most,
      disturbed: row.disturbed,
    }
  })
}

function judgeContention({ contention }: Collected): Verdict[] {
  return contention.map(row => ({
    goal: 'beside a busy loop on one core',
    what: caseName(row),
    measured: `${formatNumber(row.ratio.median)}×`,
    needed: `≤ ${MAX_CONTENTION}×`,
    holds: row.ratio.median <= MAX_CONTENTION,
    disturbed: row.disturbed,
  }))
}

function judgeCalls({ overheads }: Collected): Verdict[] {
  return overheads
    .filter(row => row.device === 'cpu' && !isExpertSweep(row))
    .flatMap(row => [
      callVerdict(row, 'forwardSync with 0 tokens', row.forwardSyncUs, MAX_SYNC_US),
      callVerdict(row, 'round trip of forward', row.forwardUs, MAX_ASYNC_US),
    ])
}

function callVerdict(row: Collected['overheads'][number], goal: string, us: number, most: number): Verdict {
  return {
    goal,
    what: caseName(row),
    measured: `${formatNumber(us)} µs`,
    needed: `< ${most} µs`,
    holds: us < most,
    disturbed: row.disturbed,
  }
}

function judgeLoad({ loads }: Collected): Verdict[] {
  return loads.flatMap(row => {
    const bytes = row.peakBytes / row.weightBytes
    const what = caseName(row)
    return [
      {
        ...{ goal: 'memory at the peak of loading, over the weights', what },
        measured: `${bytes.toFixed(3)}×`,
        needed: `≤ ${MAX_LOAD_BYTES}×`,
        holds: bytes <= MAX_LOAD_BYTES,
        // Other processes change nothing in it.
        disturbed: false,
      },
      {
        ...{ goal: 'speed of loading over that of cat', what },
        measured: formatPercent(row.speed.median),
        needed: `≥ ${formatPercent(MIN_LOAD_SPEED)}`,
        holds: row.speed.median >= MIN_LOAD_SPEED,
        disturbed: row.disturbed,
      },
    ]
  })
}
