/**
 * What a layer computes whose activations become codes of 8 bits, written down once more: in double precision but for that, and with no
 * part of the library's own arithmetic of codes.
 */

import type { ResolvedMoeConfig } from '../../lib/block/config.js'
import type { FloatWeights } from '../../lib/block/weights.js'
import type { ExpertTensors } from '../../lib/reference/expert.js'
import { runLayer } from '../../lib/reference/layer.js'
import { drain, type Matrix } from '../../lib/reference/matrix.js'
import { layerTensors } from '../../lib/reference/tensors.js'

/** How far a device's row, summed in f32, may be from the exact one, beside the row's largest element. */
const ROW_ERROR = 2e-6

/** Which columns share a scale: `null` those that stand side by side; `undefined`: the matrix multiplies rows as they are. */
export type ColumnOrder = readonly number[] | null | undefined

/** Rows of a replayed forward of one expert per token. */
export interface Int8Rows {
  hidden: Float32Array
  topkIds: Int32Array
  topkWeights: Float32Array
}

/**
 * @param orderOf by the place of a matrix
 * @returns the output, and the rows in which no value is so close to the middle of two codes that a sum in f32 may fall on either side
 */
export function int8Rows(
  config: ResolvedMoeConfig,
  weights: FloatWeights,
  { hidden, topkIds, topkWeights }: Int8Rows,
  orderOf: (matrix: 'gate' | 'up' | 'down', expert: number | 'shared') => ColumnOrder,
): { output: Float64Array; clear: number[] } {
  const { hiddenSize, topK } = config
  let areClear = true
  const round = (row: Float64Array, order: readonly number[] | null): Float64Array => {
    const out = new Float64Array(row.length)
    const columns = order ?? Array.from(row.keys())
    const largest = Math.max(...row.map(Math.abs))
    for (let begin = 0; begin < columns.length; begin += 32) {
      const block = columns.slice(begin, begin + 32)
      const step = Math.max(...block.map(col => Math.abs(row[col]!))) / 127
      for (const col of block) {
        const code = step === 0 ? 0 : row[col]! / step
        if (Math.abs(Math.abs(code % 1) - 0.5) * step <= ROW_ERROR * largest) areClear = false
        out[col] = Math.round(code) * step
      }
    }
    return out
  }
  const tensors = layerTensors(config, weights)
  const coded = <M extends Matrix | null>(matrix: M, order: ColumnOrder): M =>
    matrix && order !== undefined
      ? { ...matrix, data: matrix.data, roundRow: row => round(row, order) }
      : matrix
  const mlp = (expert: ExpertTensors, number: number | 'shared'): ExpertTensors => ({
    ...expert,
    gate: coded(expert.gate, orderOf('gate', number)),
    up: coded(expert.up, orderOf('up', number)),
    down: coded(expert.down, orderOf('down', number)),
  })
  const numTokens = hidden.length / hiddenSize
  const output = new Float64Array(hidden.length)
  const clear: number[] = []
  drain(
    runLayer(
      config,
      {
        ...tensors,
        experts: tensors.experts.map(mlp),
        shared: tensors.shared && mlp(tensors.shared, 'shared'),
      },
      {
        numTokens,
        replay: true,
        topkIds,
        topkWeights: Float64Array.from(topkWeights),
        nonFinite: new Uint8Array(numTokens),
        ...{ topK, topP: 1, tokenIds: null, sequenceLengths: null },
        readHidden: (token, row) => {
          areClear = true
          row.set(hidden.subarray(token * hiddenSize, (token + 1) * hiddenSize))
        },
        readRouterInput: null,
        writeOutput: (token, row) => {
          output.set(row, token * hiddenSize)
          if (areClear) clear.push(token)
          return true
        },
      },
    ),
  )
  return { output, clear }
}
