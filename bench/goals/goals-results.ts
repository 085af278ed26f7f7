/** What the measurements leave behind that only the goals need. */

import type { MachineLimits } from '../harness/machine.js'
import type { Results } from '../harness/results.js'
import type { Ratio } from '../harness/rounds.js'
import type { WeightKind } from '../harness/weight-kinds.js'

interface Watched {
  foreignCores: number | null
  disturbed: boolean
}

/** A layer beside the limits of the machine, measured in turns with it. */
export interface ShareRow extends Watched {
  shape: string
  dtype: WeightKind
  numTokens: number
  threads: number
  medianMs: number
  /** Of the least time that the limits around the same block of calls allow. */
  share: Ratio
  bound: 'memory' | 'compute'
  /** Bytes of the distinct weights that a call needed, as they are held, over its median time. */
  weightGBs?: number
}

/** A skewed load beside the uniform one, measured in turns with it. */
export interface SkewRow extends Watched {
  shape: string
  dtype: WeightKind
  numTokens: number
  threads: number
  load: 'zipf' | 'same_experts'
  /** Its time over that of uniform routing. */
  ratio: Ratio
  /** What the bytes and FLOPs make of that ratio at the limits. */
  least: number
}

/** Reading a layer from files that the page cache holds, in turns with `cat` of them. */
export interface LoadRow extends Watched {
  shape: string
  dtype: WeightKind
  threads: number
  /** Of the layer's tensors as stored. */
  weightBytes: number
  /** Of the layer when it is loaded, as the library counts it. */
  heldBytes?: number
  /** By how much the process grew at the peak of its first load. */
  peakBytes: number
  loadMs: number
  catMs: number
  /** Bytes per second of loading over those of cat. */
  speed: Ratio
}

export interface GoalsResults extends Pick<Results, 'date' | 'revision' | 'environment'> {
  benchmark: 'sparse-experts goals'
  machine: MachineLimits | null
  shares: ShareRow[]
  skews: SkewRow[]
  loads: LoadRow[]
}
