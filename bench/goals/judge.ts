/** Sets results beside the goals of goals.ts. Pure: the same results give the same verdicts. */

import { formatBytes, formatNumber, formatPercent } from '../../lib/cli/format.js'
import { isExpertSweep } from '../harness/shapes.js'
import { isStoredForm } from '../harness/weight-kinds.js'
import type { Collected } from './collect.js'
import {
  MAX_ASYNC_US,
  MAX_CODES_LOAD_BYTES,
  MAX_CONTENTION,
  MAX_HELD,
  MAX_LOAD_BYTES,
  MAX_SKEW,
  MAX_SYNC_US,
  MIN_AVX2_CODE_GBS,
  MIN_LOAD_SPEED,
  SHARE_GOALS,
} from './goals.js'
import { judgeGrowth } from './judge-growth.js'
import { judgeActivations, judgeEngine, judgeOwn, judgePeers } from './judge-peers.js'
import { judgeStages } from './judge-stages.js'
import { caseName, type Verdict } from './verdict.js'

/** Everything that was measured, in the order of the goals; what is missing was not measured. */
export function judge(collected: Collected): Verdict[] {
  const verdicts = [
    ...judgeShares(collected),
    ...judgePeers(collected.peerRows),
    ...judgeOwn(collected.peerRows, architectureOf(collected)),
    ...judgeActivations(collected.peerRows),
    ...judgeEngine(collected.contexts),
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

const architectureOf = ({ newest }: Collected) => newest?.environment.architecture ?? ''

/** Codes on a processor with AVX2 alone are asked for a speed instead of a share. */
function judgeShares(collected: Collected): Verdict[] {
  const { shares, machine } = collected
  return shares.flatMap(row => {
    if (isStoredForm(row.dtype) && architectureOf(collected) === 'avx2') return judgeCodeSpeed(row)
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

function judgeCodeSpeed(row: Collected['shares'][number]): Verdict[] {
  if (row.numTokens !== 1 || row.threads !== 1 || row.weightGBs === undefined) return []
  return [
    {
      goal: 'speed of codes with AVX2, T=1',
      what: caseName(row),
      measured: `${formatNumber(row.weightGBs)} GB/s`,
      needed: `≥ ${MIN_AVX2_CODE_GBS} GB/s`,
      holds: row.weightGBs >= MIN_AVX2_CODE_GBS,
      disturbed: row.disturbed,
    },
  ]
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

// Other processes change nothing in memory: none of these is ever disturbed.

function judgeLoadPeak(row: Collected['loads'][number]): Verdict {
  const bytes = row.peakBytes / row.weightBytes
  return {
    goal: 'memory at the peak of loading, over the weights',
    what: caseName(row),
    measured: `${bytes.toFixed(3)}×`,
    needed: `≤ ${MAX_LOAD_BYTES}×`,
    holds: bytes <= MAX_LOAD_BYTES,
    disturbed: false,
  }
}

function judgeHeld(row: Collected['loads'][number]): Verdict[] {
  if (row.heldBytes === undefined) return []
  const what = caseName(row)
  const held = row.heldBytes / row.weightBytes
  const most = row.dtype.endsWith('_K') ? MAX_HELD.kQuants : MAX_HELD.other
  const beyond = row.peakBytes - row.heldBytes
  return [
    {
      ...{ goal: 'memory held, over what is stored', what },
      measured: `${held.toFixed(3)}×`,
      needed: `≤ ${most}×`,
      holds: held <= most,
      disturbed: false,
    },
    {
      ...{ goal: 'memory at the peak of loading codes, beyond what is held', what },
      measured: beyond < 0 ? 'none' : formatBytes(beyond),
      needed: `≤ ${formatBytes(MAX_CODES_LOAD_BYTES)}`,
      holds: beyond <= MAX_CODES_LOAD_BYTES,
      disturbed: false,
    },
  ]
}

function judgeLoad({ loads }: Collected): Verdict[] {
  return loads.flatMap(row => {
    const what = caseName(row)
    return [
      ...(isStoredForm(row.dtype) ? judgeHeld(row) : [judgeLoadPeak(row)]),
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
