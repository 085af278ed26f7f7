/** What the author of a server would write to put the rows of requests together: the benchmark compares it with the layer's own way. */

import type { MoeLayer } from '../harness/package.js'

interface Waiting {
  row: Float32Array
  resolve(output: Float32Array): void
  reject(reason: unknown): void
}

/** While a forward runs rows wait; the next one takes them all, up to `maxRows`. */
export function batchRows(
  layer: Pick<MoeLayer, 'forward' | 'config'>,
  maxRows: number,
): (row: Float32Array) => Promise<Float32Array> {
  const { hiddenSize } = layer.config
  const waiting: Waiting[] = []
  let isRunning = false
  const runAll = async () => {
    isRunning = true
    while (waiting.length > 0) {
      const batch = waiting.splice(0, maxRows)
      const rows = new Float32Array(batch.length * hiddenSize)
      for (const [i, { row }] of batch.entries()) rows.set(row, i * hiddenSize)
      try {
        const { output } = await layer.forward(rows)
        for (const [i, { resolve }] of batch.entries()) {
          resolve(output.subarray(i * hiddenSize, (i + 1) * hiddenSize))
        }
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
    }
    isRunning = false
  }
  return row =>
    new Promise((resolve, reject) => {
      waiting.push({ row, resolve, reject })
      if (!isRunning) void runAll()
    })
}
