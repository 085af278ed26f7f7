/** Expands the options to groups of cells: one group per layer that has to be made, each with the cells measured on it. */

import type { BenchLoad } from '../harness/load.js'
import { plan } from '../harness/package.js'
import { type BenchShape, shapeNamed } from '../harness/shapes.js'
import type { Trace } from '../harness/trace.js'
import { isStoredForm, type WeightKind } from '../harness/weight-kinds.js'
import type { BenchOptions } from './layer-options.js'

/** A reference forward of more FLOPs than this takes seconds. */
const REFERENCE_FLOPS = 4e9
const REFERENCE_FLOPS_QUICK = 2e7
/** Tokens at which the stages are taken apart. */
const STAGE_TOKENS = [1, 64, 512]

export interface LayerCell {
  load: BenchLoad
  numTokens: number
}

export interface Group {
  shape: BenchShape
  dtype: WeightKind
  device: string
  threads: number
  layerCells: LayerCell[]
  /** Tokens whose stages are measured one by one. */
  stageTokens: number[]
}

/** @param devices those that serve, by id */
export function groupsOf(
  options: BenchOptions,
  devices: readonly string[],
  cores: number,
  traces: readonly Trace[],
): Group[] {
  const groups: Group[] = []
  for (const name of options.shapes) {
    const shape = shapeNamed(name)!
    for (const dtype of options.dtypes) {
      // Codes are multiplied in place on the CPU.
      for (const device of isStoredForm(dtype) ? devices.filter(id => id === 'cpu') : devices) {
        const slow = device === 'reference'
        const most = options.quick ? REFERENCE_FLOPS_QUICK : REFERENCE_FLOPS
        // Threads are the CPU's; elsewhere there is one way to run.
        const threadCounts = device === 'cpu' ? options.threads.map(count => count || cores) : [1]
        for (const threads of new Set(threadCounts)) {
          const tokens = options.tokens.filter(
            numTokens => !slow || plan(shape.config, numTokens, 'reference').flops <= most,
          )
          const loads = loadsOf(options, shape, traces).filter(load => !slow || load === 'gate')
          const layerCells = loads.flatMap(load => tokens.map(numTokens => ({ load, numTokens })))
          if (layerCells.length === 0) continue
          const stageTokens =
            options.stages &&
            device === 'cpu' &&
            !isStoredForm(dtype) &&
            shape.expertsOfAllRanks === undefined
              ? tokens.filter(numTokens => STAGE_TOKENS.includes(numTokens))
              : []
          groups.push({ shape, dtype, device, threads, layerCells, stageTokens })
        }
      }
    }
  }
  return groups
}

/**
 * Loads that make sense for a shape. A rank of an expert-parallel group is handed its ids: what its gate would choose is what a uniform
 * draw chooses. A trace needs as many experts as the shape has.
 */
function loadsOf(options: BenchOptions, { config, expertsOfAllRanks }: BenchShape, traces: readonly Trace[]) {
  const hasTrace = traces.some(
    ({ numExperts, topK }) => numExperts === config.numExperts && topK === config.topK,
  )
  const loads = options.loads.filter(load => load !== 'traced' || hasTrace)
  if (expertsOfAllRanks === undefined) return loads
  return [...new Set(loads.map(load => (load === 'gate' ? 'uniform' : load)))]
}
