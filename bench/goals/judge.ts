/** Sets results beside the bars that this project holds its CPU backend to. Pure: the same results give the same verdicts. */

import { formatNumber, formatPercent } from '../../lib/cli/format.js'
import { TIE } from '../layer/earlier-results.js'
import { isExpertSweep } from '../report/charts/style.js'
import type { Collected } from './collect.js'
import { type Bar, caseName } from './goal.js'
import { judgeGrowth } from './judge-growth.js'
import { judgePeers } from './judge-peers.js'
import { judgeStages } from './judge-stages.js'

/** Everything that was measured, in the order of the bars; what is missing here was not measured. */
export function judge(collected: Collected): Bar[] {
  const order = (bar: Bar) => bar.bar
  const bars = [
    ...judgeShares(collected),
    ...judgePeers(collected.peerRows),
    ...judgeSkew(collected),
    ...judgeContention(collected),
    ...judgeStages(collected.rows),
    ...judgeCalls(collected),
    ...judgeLoad(collected),
    ...judgeGrowth(collected),
  ]
  // Stable: rows of one bar stay together in the order they came.
  const names = [...new Set(bars.map(order))]
  return names.flatMap(name => bars.filter(bar => bar.bar === name))
}

/** Least share of the roofline by rows of a call. */
const SHARE_BARS: readonly { numTokens: number; share: (dtype: string) => number | undefined; of: string }[] =
  [
    { numTokens: 1, share: () => 0.95, of: 'read bandwidth' },
    { numTokens: 8, share: () => 0.95, of: 'read bandwidth' },
    { numTokens: 64, share: dtype => (dtype === 'f16' ? undefined : 0.75), of: 'roofline' },
    { numTokens: 512, share: dtype => ({ bf16: 0.65, f32: 0.68 })[dtype], of: 'peak of the arithmetic' },
  ]

function judgeShares({ shares, machine }: Collected): Bar[] {
  return shares.flatMap(row => {
    const bar = SHARE_BARS.find(({ numTokens }) => numTokens === row.numTokens)
    const least = bar?.share(row.dtype)
    if (!bar || least === undefined) return []
    // The best that there is for a dtype without a unit of its own.
    const widened = row.dtype === 'bf16' && row.numTokens === 512 && !machine?.bf16Instruction
    return [
      {
        bar: `share of the ${bar.of}, T=${row.numTokens}`,
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

function judgeSkew({ skews }: Collected): Bar[] {
  return skews.map(row => {
    // More bytes or FLOPs may cost their time; fewer must not cost more than none saved.
    const most = Math.max(1, row.least) * (1 + TIE)
    return {
      bar: 'skewed over uniform routing, beyond bytes and FLOPs',
      what: `${LOADS[row.load]}, ${caseName(row)}`,
      measured: `${formatNumber(row.ratio.median)}× (least ${formatNumber(row.least)}×)`,
      needed: `≤ ${formatNumber(most)}×`,
      holds: row.ratio.median <= most,
      disturbed: row.disturbed,
    }
  })
}

const MAX_CONTENTION = 2.2

function judgeContention({ contention }: Collected): Bar[] {
  return contention.map(row => ({
    bar: 'beside a busy loop on one core',
    what: caseName(row),
    measured: `${formatNumber(row.ratio.median)}×`,
    needed: `≤ ${MAX_CONTENTION}×`,
    holds: row.ratio.median <= MAX_CONTENTION,
    disturbed: row.disturbed,
  }))
}

const MAX_SYNC_US = 5
const MAX_ASYNC_US = 40

function judgeCalls({ overheads }: Collected): Bar[] {
  return overheads
    .filter(row => row.device === 'cpu' && !isExpertSweep(row))
    .flatMap(row => [
      callBar(row, 'forwardSync with 0 tokens', row.forwardSyncUs, MAX_SYNC_US),
      callBar(row, 'round trip of forward', row.forwardUs, MAX_ASYNC_US),
    ])
}

function callBar(row: Collected['overheads'][number], bar: string, us: number, most: number): Bar {
  return {
    bar,
    what: caseName(row),
    measured: `${formatNumber(us)} µs`,
    needed: `< ${most} µs`,
    holds: us < most,
    disturbed: row.disturbed,
  }
}

const MAX_LOAD_BYTES = 1.15
const MIN_LOAD_SPEED = 0.8

function judgeLoad({ loads }: Collected): Bar[] {
  return loads.flatMap(row => {
    const bytes = row.peakBytes / row.weightBytes
    const what = caseName(row)
    return [
      {
        ...{ bar: 'memory at the peak of loading, over the weights', what },
        measured: `${bytes.toFixed(3)}×`,
        needed: `≤ ${MAX_LOAD_BYTES}×`,
        holds: bytes <= MAX_LOAD_BYTES,
        // Other processes change nothing in it.
        disturbed: false,
      },
      {
        ...{ bar: 'speed of loading over that of cat', what },
        measured: formatPercent(row.speed.median),
        needed: `≥ ${formatPercent(MIN_LOAD_SPEED)}`,
        holds: row.speed.median >= MIN_LOAD_SPEED,
        disturbed: row.disturbed,
      },
    ]
  })
}
