/**
 * Finds the results that belong together: of all JSON files below bench/results, those of the newest one's machine and revision. Where two
 * of them measured the same cell, the undisturbed one counts, then the newer one.
 */

import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { bestOf, type MachineLimits } from '../harness/machine.js'
import {
  type CellName,
  type ContentionResults,
  type ContentionRow,
  cellKey,
  type Results,
  type Row,
} from '../harness/results.js'
import { groupBy } from '../harness/tables.js'
import type { ContextRow, PeerResults, PeerRow } from '../peers/peers-results.js'
import type { GoalsResults, LoadRow, ShareRow, SkewRow } from './goals-results.js'

export interface Collected {
  /** Absent where nothing was measured. */
  newest?: AnyResults
  /** The best limits of all the runs: what the machine can do does not depend on which one was asked. */
  machine: MachineLimits | null
  rows: Row[]
  peerRows: PeerRow[]
  contexts: ContextRow[]
  contention: ContentionRow[]
  shares: ShareRow[]
  skews: SkewRow[]
  loads: LoadRow[]
  overheads: Results['overheads']
  memory: Results['memory']
  notMeasured: Results['notMeasured']
  versions: Record<string, string>
  /** File names. */
  files: string[]
}

type AnyResults = Results | PeerResults | ContentionResults | GoalsResults
const KINDS: readonly string[] = [
  'sparse-experts',
  'sparse-experts peers',
  'sparse-experts contention',
  'sparse-experts goals',
]

export function readAll(directory: string): { file: string; results: AnyResults }[] {
  return readdirSync(directory)
    .filter(name => name.endsWith('.json'))
    .map(file => ({
      file,
      results: withCurrentKind(JSON.parse(readFileSync(path.join(directory, file), 'utf8')) as AnyResults),
    }))
    .filter(({ results }) => KINDS.includes(results.benchmark))
}

/** Results recorded before the goals had that name call themselves 'sparse-experts bars'. */
function withCurrentKind(results: AnyResults): AnyResults {
  const kind: string = results.benchmark
  return kind === 'sparse-experts bars'
    ? { ...(results as GoalsResults), benchmark: 'sparse-experts goals' }
    : results
}

/** The commit below uncommitted changes: what was changed between two parts of a run does not part their results; the page names the newest. */
const baseOf = (revision: string) => revision.replace(/\+changes$/, '')

export function collect(all: readonly { file: string; results: AnyResults }[]): Collected {
  const byDate = [...all].sort((a, b) => b.results.date.localeCompare(a.results.date))
  const newest = byDate[0]?.results
  const belongs = ({ results: { revision, environment } }: { results: AnyResults }) =>
    baseOf(revision) === baseOf(newest!.revision) &&
    environment.cpu === newest!.environment.cpu &&
    environment.architecture === newest!.environment.architecture
  const used = newest ? byDate.filter(belongs) : []
  const cells = used.flatMap(({ results }) => (results.benchmark === 'sparse-experts' ? [results] : []))
  const peers = used.flatMap(({ results }) => (results.benchmark === 'sparse-experts peers' ? [results] : []))
  const contention = used.flatMap(({ results }) =>
    results.benchmark === 'sparse-experts contention' ? results.rows : [],
  )
  const goals = used.flatMap(({ results }) => (results.benchmark === 'sparse-experts goals' ? [results] : []))
  const peerKey = (row: PeerRow) =>
    [row.shape, row.peer, row.dtype, row.numTokens, row.threads, row.group].join(' ')
  return {
    newest,
    machine: [...cells, ...peers, ...goals]
      .map(results => results.machine)
      .reduce((a, b) => (a && b ? bestOf(a, b) : (a ?? b)), null),
    rows: best(
      cells.flatMap(results => results.rows),
      cellKey,
    ),
    peerRows: best(
      peers.flatMap(results => results.rows),
      peerKey,
    ),
    contexts: best(
      peers.flatMap(results => results.contexts),
      callKey,
    ),
    contention: best(contention, callKey),
    shares: best(
      goals.flatMap(results => results.shares),
      callKey,
    ),
    skews: best(
      goals.flatMap(results => results.skews),
      row => `${callKey(row)} ${row.load}`,
    ),
    loads: best(
      goals.flatMap(results => results.loads),
      row => layerKey({ ...row, device: 'cpu' }),
    ),
    overheads: best(
      cells.flatMap(results => results.overheads),
      layerKey,
    ),
    memory: newestOf(
      cells.flatMap(results => results.memory),
      layerKey,
    ),
    notMeasured: [...cells, ...peers].flatMap(results => results.notMeasured),
    versions: Object.assign({}, ...peers.map(results => results.versions)),
    files: used.map(({ file }) => file),
  }
}

const layerKey = ({ shape, device, dtype, threads }: Omit<CellName, 'what' | 'load' | 'numTokens'>) =>
  [shape, device, dtype, threads].join(' ')

const callKey = ({
  shape,
  dtype,
  numTokens,
  threads,
}: Pick<Row, 'shape' | 'numTokens' | 'threads'> & { dtype: string }) =>
  [shape, dtype, numTokens, threads].join(' ')

/** Items come newest first. */
function newestOf<T>(items: readonly T[], keyOf: (item: T) => string): T[] {
  return groupBy(items, keyOf).map(([, group]) => group[0]!)
}

/** Rows come newest first. */
function best<R extends { disturbed: boolean }>(rows: readonly R[], keyOf: (row: R) => string): R[] {
  const chosen = new Map<string, R>()
  for (const row of rows) {
    const key = keyOf(row)
    const other = chosen.get(key)
    if (!other || (other.disturbed && !row.disturbed)) chosen.set(key, row)
  }
  return [...chosen.values()]
}
