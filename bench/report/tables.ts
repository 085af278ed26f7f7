/** Markdown tables of results, for the page and for the README. */

import { formatNumber } from '../../lib/cli/format.js'
import type { ShareRow } from '../goals/goals-results.js'
import type { Row } from '../harness/results.js'
import { groupBy, markdownTable, threadsText } from '../harness/tables.js'
import type { PeerRow } from '../peers/peers-results.js'

/** One table per group of comparable peers and number of threads: tokens/s, and in brackets their time over ours in the group's dtype. */
export function peersTable(rows: readonly PeerRow[]): string[] {
  return groupBy(rows, row => `${row.group} ${row.threads}`).map(([, group]) => {
    const peers = [...new Set(group.map(row => `${row.peer} ${row.dtype}`))]
    const cases = groupBy(group, row => `${row.shape} ${row.numTokens}`)
    return markdownTable(
      [`shape, ${threadsText(group[0]!.threads)}`, 'T', ...peers.map(name => `${name}, tokens/s`)],
      cases.map(([, rowsOfCase]) => [
        rowsOfCase[0]!.shape,
        String(rowsOfCase[0]!.numTokens),
        ...peers.map(name => peerCell(rowsOfCase.find(row => `${row.peer} ${row.dtype}` === name))),
      ]),
    )
  })
}

function peerCell(row: PeerRow | undefined): string {
  if (!row) return '–'
  const mark = row.disturbed ? '~' : ''
  const speed = `${mark}${formatNumber(row.tokensPerSecond)}`
  const isOurs = row.ratio.low === 1 && row.ratio.high === 1
  return isOurs ? speed : `${speed} (${formatNumber(row.ratio.median)}×)`
}

/** Its dtype only where that is not ours. */
function peerText({ disturbed, ratio, peer, dtype }: PeerRow, ourDtype: string): string {
  const name = dtype === ourDtype ? peer : `${peer} in ${dtype}`
  return `${disturbed ? '~' : ''}${formatNumber(ratio.median)}× ${name}`
}

const GLANCE_TOKENS = [1, 8, 64, 512]

/** A case of the table at a glance. */
export interface GlanceCase {
  shape: string
  dtype: string
  numTokens: number
}

/** What the README says about speed: one token, a small batch, a prompt. */
export const README_CASES: readonly GlanceCase[] = [
  { shape: 'Qwen3-30B-A3B', dtype: 'bf16', numTokens: 1 },
  { shape: 'OLMoE-1B-7B', dtype: 'bf16', numTokens: 64 },
  { shape: 'DeepSeek-V2-Lite', dtype: 'f32', numTokens: 512 },
]

/**
 * The table at a glance, with the most threads: tokens/s and share of the roofline of this package in f32 and bf16, and how much faster it is
 * than the best peer that stands beside it (in bf16 also those that only have f32). The share is the one beside limits of the same moment
 * where it was measured so, else the one beside the best of the whole run.
 *
 * @param only these cases, in their order @defaultValue all
 */
export function glanceTable(
  rows: readonly Row[],
  peerRows: readonly PeerRow[],
  shares: readonly ShareRow[] = [],
  only?: readonly GlanceCase[],
): string {
  const most = Math.max(0, ...peerRows.map(row => row.threads))
  const ours = peerRows.filter(
    row => row.peer === 'sparse-experts' && row.group === row.dtype && row.threads === most,
  )
  const chosen = only
    ? only.flatMap(({ shape, dtype, numTokens }) =>
        ours.filter(row => row.shape === shape && row.dtype === dtype && row.numTokens === numTokens),
      )
    : ours.filter(row => GLANCE_TOKENS.includes(row.numTokens))
  const cases = chosen.map(({ shape, numTokens, dtype, threads, tokensPerSecond, disturbed }) => {
    const others = peerRows.filter(
      row =>
        row.peer !== 'sparse-experts' &&
        row.group === dtype &&
        row.shape === shape &&
        row.numTokens === numTokens &&
        row.threads === threads,
    )
    const best = others.sort((a, b) => a.ratio.median - b.ratio.median)[0]
    const layer = rows.find(
      row =>
        row.what === 'layer' &&
        row.device === 'cpu' &&
        row.load === 'gate' &&
        row.shape === shape &&
        row.dtype === dtype &&
        row.numTokens === numTokens &&
        row.threads === threads,
    )
    const beside = shares.find(
      row =>
        row.shape === shape && row.dtype === dtype && row.numTokens === numTokens && row.threads === threads,
    )
    const roofline = beside?.share.median ?? layer?.rooflineShare
    const isDoubtful = (beside ?? layer)?.disturbed
    return [
      shape,
      dtype,
      String(numTokens),
      `${disturbed ? '~' : ''}${formatNumber(tokensPerSecond)}`,
      roofline === undefined || roofline === null
        ? '–'
        : `${isDoubtful ? '~' : ''}${Math.round(100 * roofline)} %`,
      best ? peerText(best, dtype) : '–',
    ]
  })
  return markdownTable(
    [
      'Layer of',
      'dtype',
      'tokens per call',
      'tokens/s',
      'of the machine’s limit',
      'faster than the best peer by',
    ],
    cases,
  )
}
