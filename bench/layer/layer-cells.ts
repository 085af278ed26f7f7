/**
 * Measures whole layers: makes the copies of one layer, then each of its cells, the same cell on a dense layer of all the experts, and
 * the cost of an empty call. Steps: random weights, copies, drop the weights, cells.
 */

import { Random } from '../../test/cases/random.js'
import { type CallInput, copiesOf, randomHidden } from '../harness/inputs.js'
import { callsOf, makeLayers } from '../harness/layers.js'
import { limitsFor, type MachineLimits } from '../harness/machine.js'
import { availableBytes, peakRssBytes, resetPeakRss } from '../harness/memory.js'
import { isDisturbed } from '../harness/other-load.js'
import type { LayerStats, MoeLayer, PhaseSeconds } from '../harness/package.js'
import type { CellName, Memory, Overhead, Row, Timing } from '../harness/results.js'
import { figuresOf, type Limits } from '../harness/roofline.js'
import type { Trace } from '../harness/trace.js'
import { layerStoredBytes } from '../harness/weight-kinds.js'
import type { Group, LayerCell } from './cell-groups.js'
import { type CellOptions, timeAsync, timeCell } from './time-cell.js'

export interface LayerCellsOptions extends CellOptions {
  dense: boolean
  quick: boolean
  cacheBytes: number
  traces: readonly Trace[]
  machine: MachineLimits | null
  /** Called before each cell, with what is measured. */
  onCell(label: string): void
  onRow(row: Row): void
}

/** What a dense layer's call may take at a third of the peak; longer ones are scaled from the longest that was measured. */
const DENSE_SECONDS = 2
/** A dense layer's call that scales: time is linear in the tokens once every expert has a few. */
const LINEAR_TOKENS = 16

export interface MeasuredGroup {
  overhead: Overhead
  memory: Memory
}

/** A reason instead of rows where the machine has too little memory. */
export async function measureLayers(
  group: Group,
  options: LayerCellsOptions,
): Promise<MeasuredGroup | { reason: string }> {
  const { shape, dtype, device, threads } = group
  const name: Omit<CellName, 'what' | 'load' | 'numTokens'> = { shape: shape.name, device, dtype, threads }
  const layerBytes = layerStoredBytes(shape.config, dtype)
  const copies = device === 'reference' ? 1 : copiesOf(layerBytes, options.cacheBytes, options.quick ? 4 : 16)
  const isDense = options.dense && device !== 'reference'
  // What a layer is made of is there beside it.
  const needed = layerBytes * (1 + copies + (isDense ? 1 : 0))
  if (needed > 0.9 * availableBytes()) {
    return { reason: `needs ${(needed / 1e9).toFixed(1)} GB of memory` }
  }
  const made = makeLayers(group, copies, isDense)
  const limits = options.machine && limitsFor(options.machine, dtype, threads)
  const before = await resetPeakRss()
  try {
    const dense = made.dense && new DenseLayer(made.dense, limits, options)
    for (const cell of group.layerCells) {
      options.onCell(`${shape.name} ${device} ${dtype} ${cell.load} T=${cell.numTokens}`)
      const row = await measureCell(group, cell, made.layers, limits, options)
      if (!row) continue
      const compared = dense && (await dense.compare(cell.numTokens, row.medianMs))
      options.onRow({ ...name, what: 'layer', ...cell, ...row, ...(compared && { dense: compared }) })
    }
    const [layer] = made.layers
    const overhead = { ...name, ...(await emptyForward(layer!, options)) }
    const stats = made.layers.map(copy => copy.stats())
    const sum = (of: (one: LayerStats) => number) => stats.reduce((total, one) => total + of(one), 0)
    const memory = {
      ...{ ...name, copies },
      layerBytes: sum(({ hostBytes, deviceBytes }) => hostBytes + deviceBytes),
      storedBytes: layerBytes,
      workspaceBytes: Math.max(...stats.map(({ workspaceBytes }) => workspaceBytes)),
      grownBytes: Math.max(0, peakRssBytes() - before),
      peakRssBytes: peakRssBytes(),
    }
    return { overhead, memory }
  } finally {
    for (const layer of [...made.layers, ...(made.dense ? [made.dense] : [])]) layer.dispose()
  }
}

async function measureCell(
  { shape }: Group,
  { load, numTokens }: LayerCell,
  layers: readonly MoeLayer[],
  limits: Limits | null,
  options: LayerCellsOptions,
) {
  const calls = callsOf(shape, load, numTokens, layers, options.traces)
  if (!calls) return null
  const before = phasesOf(layers)
  const timing = await timeCell(calls.next, options)
  const phases = meanPhases(before, phasesOf(layers))
  return { ...figuresOf(timing, numTokens, calls.work, limits), ...(phases && { phases }) }
}

interface PhaseSums {
  calls: number
  seconds: PhaseSeconds
}

const PHASES = ['routing', 'dispatch', 'experts', 'combine'] as const

function phasesOf(layers: readonly MoeLayer[]): PhaseSums | null {
  const sums: PhaseSums = { calls: 0, seconds: { routing: 0, dispatch: 0, experts: 0, combine: 0 } }
  for (const layer of layers) {
    const { calls, phaseSeconds } = layer.stats()
    if (!phaseSeconds) return null
    sums.calls += calls
    for (const phase of PHASES) sums.seconds[phase] += phaseSeconds[phase]
  }
  return sums
}

/** Milliseconds per call between the two. */
function meanPhases(before: PhaseSums | null, after: PhaseSums | null): PhaseSeconds | null {
  if (!before || !after || after.calls === before.calls) return null
  const mean = (phase: (typeof PHASES)[number]) =>
    (1000 * (after.seconds[phase] - before.seconds[phase])) / (after.calls - before.calls)
  return {
    ...{ routing: mean('routing'), dispatch: mean('dispatch') },
    ...{ experts: mean('experts'), combine: mean('combine') },
  }
}

/** The same experts, all of them for every token: what sparsity saves is measured against it. */
class DenseLayer {
  readonly #measured = new Map<number, Timing>()

  constructor(
    readonly layer: MoeLayer,
    readonly limits: Limits | null,
    readonly options: LayerCellsOptions,
  ) {}

  async compare(numTokens: number, sparseMs: number): Promise<Row['dense']> {
    const seconds = this.layer.explain(numTokens).flops / ((this.limits?.flopsPerSecond ?? 1e11) / 3)
    if (!this.#measured.has(numTokens) && seconds <= DENSE_SECONDS) {
      const { hidden, options } = this.#input(numTokens)
      const cell = { timeMs: this.options.timeMs / 2, retries: Math.min(1, this.options.retries) }
      this.#measured.set(numTokens, await timeCell(() => this.layer.forwardSync(hidden, options), cell))
    }
    const measured = this.#measured.get(numTokens)
    if (measured) {
      const { medianMs, disturbed } = measured
      return { medianMs, ratio: medianMs / sparseMs, how: 'measured', disturbed }
    }
    const longest = Math.max(0, ...this.#measured.keys())
    if (longest < LINEAR_TOKENS) return undefined
    const { medianMs, disturbed } = this.#measured.get(longest)!
    const scaled = (medianMs * numTokens) / longest
    return { medianMs: scaled, ratio: scaled / sparseMs, how: 'scaled', disturbed }
  }

  #input(numTokens: number): CallInput {
    const { hiddenSize, numExperts } = this.layer.config
    const hidden = randomHidden(new Random(numTokens), numTokens, hiddenSize)
    const output = new Float32Array(hidden.length)
    const topkIds = Int32Array.from({ length: numTokens * numExperts }, (_, slot) => slot % numExperts)
    const topkWeights = new Float32Array(topkIds.length).fill(1 / numExperts)
    return { hidden, options: { output, routing: { topkIds, topkWeights } } }
  }
}

/** A call without tokens: what crossing from JavaScript and back costs. */
async function emptyForward(layer: MoeLayer, { timeMs, retries }: CellOptions) {
  const empty = new Float32Array(0)
  const options = { timeMs: timeMs / 4, retries }
  const blocking = await timeCell(() => layer.forwardSync(empty), options)
  const { medianUs, foreignCores } = await timeAsync(() => layer.forward(empty), options)
  const most = blocking.foreignCores === null ? null : Math.max(blocking.foreignCores, foreignCores ?? 0)
  return {
    ...{ forwardSyncUs: blocking.medianMs * 1000, forwardUs: medianUs },
    ...{ foreignCores: most, disturbed: isDisturbed(most) },
  }
}
