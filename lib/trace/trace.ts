/** A trace in memory: which experts each call of a recording needed. */

import type { TraceLayer } from './format.js'

/** A recorded routing, as {@link readTrace} gives it. */
export interface Trace {
  readonly layers: readonly TraceLayer[]
  readonly numCalls: number
  /** Rows of all calls; a token of a model is a row in each of its layers. */
  readonly numRows: number
  readonly calls: {
    /** Index into {@link layers}, `[numCalls]`. */
    readonly layer: Int32Array
    /** Rows of the call, `[numCalls]`. They follow those of the layer's calls before it. */
    readonly rows: Int32Array
    /** When the call began, microseconds since the recording did. */
    readonly micros: Float64Array
  }
  /** Per layer, `[rows, topK]`; 255 in bytes, or 65535, where no expert ran. */
  readonly topkIds: readonly (Uint8Array | Uint16Array)[]
  /** Per layer, `[rows, topK]`, the bits of f16; `null` where they were not recorded. */
  readonly topkWeights: readonly Uint16Array[] | null
}
