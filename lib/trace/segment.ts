/** Calls on their way into one file of a trace. */

import { allocate } from '../block/allocate.js'
import type { WritableTensor } from '../checkpoint/writer.js'
import { CALL_COLUMNS, idStorage, idsName, type TraceLayer, weightsName } from './format.js'

/** An array that grows at its end. */
class Growing<A extends Uint8Array | Uint16Array | Float64Array> {
  #array: A

  /** @param make an array of zeros of so many elements */
  constructor(private readonly make: (length: number) => A) {
    this.#array = make(64)
  }

  length = 0

  append(values: ArrayLike<number>): void {
    const end = this.length + values.length
    if (end > this.#array.length) {
      const larger = this.make(Math.max(end, 2 * this.#array.length))
      larger.set(this.filled())
      this.#array = larger
    }
    this.#array.set(values, this.length)
    this.length = end
  }

  filled(): A {
    return this.#array.subarray(0, this.length) as A
  }
}

interface LayerRows {
  rows: number
  /** Where its last call stands in the table; -1: it has none yet. */
  lastCall: number
  readonly ids: Growing<Uint8Array | Uint16Array>
  readonly weights: Growing<Uint16Array> | null
}

/** The calls of one segment. */
export class Segment {
  /** layer index, first row, rows, microseconds. */
  readonly #calls = new Growing(length => allocate(Float64Array, length))
  readonly #layers: LayerRows[]

  constructor(
    private readonly layers: readonly TraceLayer[],
    withWeights: boolean,
  ) {
    this.#layers = layers.map(({ numExperts }) => {
      const { array } = idStorage(numExperts)
      const ids = new Growing<Uint8Array | Uint16Array>(length =>
        allocate<Uint8Array | Uint16Array>(array, length),
      )
      const weights = withWeights ? new Growing(length => allocate(Uint16Array, length)) : null
      return { rows: 0, lastCall: -1, ids, weights }
    })
  }

  get numCalls(): number {
    return this.#calls.length / CALL_COLUMNS
  }

  /** Bytes of the tensors so far. */
  get bytes(): number {
    const ofLayer = ({ ids, weights }: LayerRows) => ids.filled().byteLength + 2 * (weights?.length ?? 0)
    return 8 * this.#calls.length + this.#layers.reduce((sum, layer) => sum + ofLayer(layer), 0)
  }

  /**
   * A call of a layer, or more rows of its last one.
   *
   * @param index of the layer in the trace
   * @param ids `[rows, topK]`, with the mark of {@link idStorage} where no expert ran
   * @param weights `[rows, topK]`, bits of f16
   * @returns whether it is a call of its own
   */
  add(
    index: number,
    ids: ArrayLike<number>,
    weights: Uint16Array | null,
    micros: number,
    isMore: boolean,
  ): boolean {
    const layer = this.#layers[index]!
    const rows = ids.length / this.layers[index]!.topK
    layer.ids.append(ids)
    if (weights) layer.weights?.append(weights)
    const isNew = !isMore || layer.lastCall < 0
    if (isNew) {
      layer.lastCall = this.#calls.length
      this.#calls.append([index, layer.rows, rows, micros])
    } else this.#calls.filled()[layer.lastCall + 2]! += rows
    layer.rows += rows
    return isNew
  }

  /** The tensors of the file, wider elements first so that they are aligned. */
  tensors(): WritableTensor[] {
    const calls = this.#calls.filled()
    const integers = allocate(Float64Array, calls.length)
    // The same memory as 64-bit integers.
    const table64 = new BigInt64Array(integers.buffer)
    for (let i = 0; i < calls.length; i++)
      table64[i] = BigInt(i % CALL_COLUMNS === 0 ? this.layers[calls[i]!]!.layer : calls[i]!)
    const shape = (layer: LayerRows, index: number) => [layer.rows, this.layers[index]!.topK]
    const ids = this.#layers.map((layer, index): WritableTensor => {
      const { layer: number, numExperts } = this.layers[index]!
      const { dtype } = idStorage(numExperts)
      return { name: idsName(number), dtype, shape: shape(layer, index), data: layer.ids.filled() }
    })
    const weights = this.#layers.flatMap((layer, index): WritableTensor[] => {
      if (!layer.weights) return []
      const name = weightsName(this.layers[index]!.layer)
      return [{ name, dtype: 'F16', shape: shape(layer, index), data: layer.weights.filled() }]
    })
    const table: WritableTensor = {
      ...{ name: 'calls', dtype: 'I64', shape: [this.numCalls, CALL_COLUMNS], data: integers },
    }
    const wide = ids.filter(({ dtype }) => dtype === 'U16')
    return [table, ...weights, ...wide, ...ids.filter(({ dtype }) => dtype === 'U8')]
  }
}
