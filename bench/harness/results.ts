/** What a benchmark leaves behind: rows of figures with the machine, the revision and the date they belong to, as JSON. */

import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { BenchLoad } from './load.js'
import type { Environment, MachineLimits } from './machine.js'
import type { DType, PhaseSeconds } from './package.js'
import type { Ratio } from './rounds.js'
import type { WeightKind } from './weight-kinds.js'

/** Times of one cell. */
export interface Timing {
  medianMs: number
  p99Ms: number
  samples: number
  /** Cores' worth of other work on the machine meanwhile; null where the system does not say. */
  foreignCores: number | null
  /** Other load was there in every repeat: the figure is not one of this machine alone. */
  disturbed: boolean
}

export interface CellName {
  /** `layer`, or a stage: gate, select_experts, dispatch, gate_up, down, combine. */
  what: string
  shape: string
  device: string
  /** What the layer holds. */
  dtype: WeightKind
  load: BenchLoad
  numTokens: number
  threads: number
}

export interface Row extends CellName, Timing {
  tokensPerSecond: number
  flops: number
  /** Bytes of the distinct weights that the calls needed, mean. */
  weightBytes: number
  distinctExperts: number
  gflops: number
  weightGBs: number
  /** The least time that the limits allow, over the median; null where they were not measured. */
  rooflineShare: number | null
  bound: 'memory' | 'compute' | null
  /** Time of a dense layer of all the experts over this one's; absent where it was not measured. */
  dense?: { medianMs: number; ratio: number; how: 'measured' | 'scaled'; disturbed: boolean }
  /** Of a layer: milliseconds per call, mean over the cell, as the layer counts them; absent where the device counts nothing. */
  phases?: PhaseSeconds
  /** Of a stage: share of the layer's median in the same run. */
  shareOfLayer?: number
}

/** An empty forward: what a call costs beside its work. */
export interface Overhead extends Omit<CellName, 'what' | 'load' | 'numTokens'> {
  forwardSyncUs: number
  forwardUs: number
  foreignCores: number | null
  disturbed: boolean
}

/** Memory while a layer's cells ran. */
export interface Memory extends Omit<CellName, 'what' | 'load' | 'numTokens'> {
  copies: number
  /** Of all copies, as the library counts it. */
  layerBytes: number
  /** Of the matrices and the router of one copy, as a checkpoint stores them. */
  storedBytes?: number
  /** Scratch, as the library counts it; shared by the layers of a device. */
  workspaceBytes: number
  /** By how much the process grew from the first cell to its peak: scratch, inputs, outputs. */
  grownBytes: number
  /** Of the process. More than the layers hold: the allocator keeps what earlier cells gave back. */
  peakRssBytes: number
}

export interface Results {
  benchmark: 'sparse-experts'
  date: string
  revision: string
  environment: Environment
  machine: MachineLimits | null
  rows: Row[]
  overheads: Overhead[]
  memory: Memory[]
  notMeasured: { what: string; reason: string }[]
}

/** A layer with and without a busy loop on one of the cores. */
export interface ContentionRow {
  shape: string
  dtype: DType
  numTokens: number
  threads: number
  quietMs: number
  busyMs: number
  ratio: Ratio
  /** Cores' worth of load that was neither ours nor the loop's. */
  foreignCores: number | null
  disturbed: boolean
}

export interface ContentionResults extends Pick<Results, 'date' | 'revision' | 'environment'> {
  benchmark: 'sparse-experts contention'
  rows: ContentionRow[]
}

export function cellKey(row: CellName): string {
  return [row.shape, row.device, row.dtype, row.load, row.what, `T=${row.numTokens}`, `${row.threads}t`].join(
    ' ',
  )
}

/** What benchmarks write: a result beside the next run's does not make that one another revision. */
const OUTPUTS = [':!bench/results', ':!docs/performance', ':!README.md']

/** The last commit that changed more than results, `+changes` where the working tree differs; empty outside of a repository. */
export function revision(): string {
  const git = (...args: string[]) =>
    execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  try {
    const commit = git('log', '-1', '--format=%H', '--', '.', ...OUTPUTS)
    return commit + (git('status', '--porcelain', '--', '.', ...OUTPUTS) ? '+changes' : '')
  } catch {
    return ''
  }
}

export function writeResults(file: string, results: object): void {
  mkdirSync(path.dirname(path.resolve(file)), { recursive: true })
  const shortened = (key: string, value: unknown) =>
    key === 'reason' && typeof value === 'string' ? withoutPaths(value) : value
  writeFileSync(file, `${JSON.stringify(results, shortened, 1)}\n`)
}

/** Where files lie on the machine that measured is nobody's business. */
export function withoutPaths(reason: string): string {
  return reason.replace(/(?:\/[\w.-]+)+\/([\w.-]+)/g, '$1')
}

/** @throws for a file that `--json` did not write */
export function readResults(file: string): Results {
  const results = JSON.parse(readFileSync(file, 'utf8')) as Partial<Results>
  if (results.benchmark !== 'sparse-experts' || !Array.isArray(results.rows)) {
    throw new Error(`${file} is no result of this benchmark`)
  }
  return results as Results
}
