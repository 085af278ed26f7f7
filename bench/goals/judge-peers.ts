/** The goals beside peers: their time over ours, from one interleaved run. The fastest peer that stands beside ours decides. */

import { formatNumber } from '../../lib/cli/format.js'
import { OURS } from '../harness/our-layer.js'
import { groupBy } from '../harness/tables.js'
import type { ContextRow, PeerRow } from '../peers/peers-results.js'
import {
  ENGINE_GOALS,
  INT8_ACTIVATIONS_TOKENS,
  MIN_INT8_ACTIVATIONS,
  OWN_GOALS,
  PEER_GOALS,
} from './goals.js'
import { caseName, type Verdict } from './verdict.js'

/** The one that a group's ratios are to. */
const isOurs = ({ peer, dtype, group }: PeerRow) => peer === OURS && dtype === group

export function judgePeers(rows: readonly PeerRow[]): Verdict[] {
  const cases = groupBy(rows, row => [row.group, row.shape, row.threads, row.numTokens].join(' '))
  return PEER_GOALS.flatMap(({ numTokens, group, ratio, peers: prefix, name }) =>
    cases.flatMap(([, peers]) => {
      const ours = peers.find(isOurs)
      if (!ours || ours.group !== group || !numTokens.includes(ours.numTokens)) return []
      const counting = peers.filter(({ peer }) => peer !== OURS && peer.startsWith(prefix))
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

/** Our codes beside our own floats, in the same rounds. */
export function judgeOwn(rows: readonly PeerRow[], architecture: string): Verdict[] {
  return OWN_GOALS.filter(
    goal => goal.architecture === undefined || goal.architecture === architecture,
  ).flatMap(({ numTokens, dtype, ratio }) =>
    rows
      .filter(
        row =>
          row.group === 'int4' && row.peer === OURS && row.dtype === dtype && row.numTokens === numTokens,
      )
      .map(row => ({
        goal: `our own ${dtype} over int4, T=${numTokens}`,
        what: caseName({ ...row, dtype: 'int4' }),
        measured: `${formatNumber(row.ratio.median)}×`,
        needed: `≥ ${ratio}×`,
        holds: row.ratio.median >= ratio,
        disturbed: row.disturbed,
      })),
  )
}

/** Rows as codes beside the same weights with exact rows, in the same rounds. */
export function judgeActivations(rows: readonly PeerRow[]): Verdict[] {
  return rows
    .filter(
      row => row.group === 'activations' && row.peer === OURS && row.numTokens >= INT8_ACTIVATIONS_TOKENS,
    )
    .map(row => ({
      goal: 'exact activations over int8 ones, int4',
      what: caseName(row),
      measured: `${formatNumber(row.ratio.median)}×`,
      needed: `≥ ${MIN_INT8_ACTIVATIONS}×`,
      holds: row.ratio.median >= MIN_INT8_ACTIVATIONS,
      disturbed: row.disturbed,
    }))
}

/** The whole-model engine: the experts' part of its time, by their share of the weights. */
export function judgeEngine(contexts: readonly ContextRow[]): Verdict[] {
  const cores = Math.max(0, ...contexts.map(({ threads }) => threads))
  return ENGINE_GOALS.flatMap(({ numTokens, form, ratio, threads = cores, except }) =>
    contexts
      .filter(row => row.dtype === form && row.numTokens === numTokens && row.threads === threads)
      .map(row => {
        const measured = row.ratio.median * row.expertShare
        const least = except?.[row.shape] ?? ratio
        return {
          goal: `faster than the experts of ${row.peer}, T=${numTokens} ${form}`,
          what: caseName(row),
          measured: `${formatNumber(measured)}×`,
          needed: `≥ ${least}×`,
          holds: measured >= least,
          disturbed: row.disturbed,
        }
      }),
  )
}
