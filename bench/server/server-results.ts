/** What `bench:server` leaves behind: figures of each way to run a server's calls, as JSON below bench/results/server. */

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { isDisturbed } from '../harness/other-load.js'
import type { DType } from '../harness/package.js'
import type { Results } from '../harness/results.js'
import { median, type Ratio, ratioOf } from '../harness/rounds.js'
import { MODES, type Mode } from './modes.js'

/** Of one server in one round. */
export interface ServerFigures {
  requestsPerSecond: number
  p50Ms: number
  p99Ms: number
  /** Rows of a forward, each a request. */
  rowsPerForward: number
  /** Cores' worth of work that was neither the server's nor its clients'; null where the system does not say. */
  foreignCores: number | null
}

export interface ServerCase {
  shape: string
  dtype: DType
  /** Connections that ask at once. */
  clients: number
}

export const caseText = ({ shape, dtype, clients }: ServerCase) => `${shape} ${dtype}, ${clients} clients`

/** The medians of the rounds. */
export interface ServerRow extends ServerCase, ServerFigures {
  mode: Mode
  /** Over the server whose calls run alone, round by round. */
  requestsRatio: Ratio
  p99Ratio: Ratio
  disturbed: boolean
}

export interface ServerResults extends Pick<Results, 'date' | 'revision' | 'environment'> {
  benchmark: 'sparse-experts server'
  rounds: number
  /** Of each server in a round. */
  seconds: number
  rows: ServerRow[]
}

/** A row for each mode, in the order of {@link MODES}. */
export function summarise(of: ServerCase, rounds: ReadonlyMap<Mode, readonly ServerFigures[]>): ServerRow[] {
  const all = (mode: Mode, figure: (figures: ServerFigures) => number) => rounds.get(mode)!.map(figure)
  return MODES.map(mode => {
    const middle = (figure: (figures: ServerFigures) => number) => median(all(mode, figure))
    const ratio = (figure: (figures: ServerFigures) => number) =>
      ratioOf(all(mode, figure), all('alone', figure))
    const isKnown = rounds.get(mode)!.every(figures => figures.foreignCores !== null)
    const foreignCores = isKnown ? middle(figures => figures.foreignCores ?? 0) : null
    return {
      ...of,
      mode,
      requestsPerSecond: middle(figures => figures.requestsPerSecond),
      p50Ms: middle(figures => figures.p50Ms),
      p99Ms: middle(figures => figures.p99Ms),
      rowsPerForward: middle(figures => figures.rowsPerForward),
      requestsRatio: ratio(figures => figures.requestsPerSecond),
      p99Ratio: ratio(figures => figures.p99Ms),
      ...{ foreignCores, disturbed: isDisturbed(foreignCores) },
    }
  })
}

/** The newest of a directory with its file's name; null where there is none. */
export function newestServerResults(directory: string): { file: string; results: ServerResults } | null {
  if (!existsSync(directory)) return null
  const all = readdirSync(directory)
    .filter(name => name.endsWith('.json'))
    .map(file => ({
      file,
      results: JSON.parse(readFileSync(path.join(directory, file), 'utf8')) as ServerResults,
    }))
    .filter(({ results }) => results.benchmark === 'sparse-experts server')
    .sort((a, b) => b.results.date.localeCompare(a.results.date))
  return all[0] ?? null
}
