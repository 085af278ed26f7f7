/** Reads the small tensors of a plan, widened to f32. */

import { allocate } from '../../block/allocate.js'
import { MoeError } from '../../block/errors.js'
import { checkSelectionBias } from '../../block/selection-bias.js'
import { STORED_BYTES } from '../../spec/formats.js'
import type { VectorName, VectorTensors } from '../../spec/vectors.js'
import { Pacer } from '../pacer.js'
import { type LayerPlan, partsOf, type VectorItem } from '../plan/layer-plan.js'
import type { Segment } from '../segment.js'
import { rowDecoder } from './decode.js'
import { elementReader, int32Of, int64Of } from './elements.js'
import type { EncodedBuffers } from './encoded.js'
import { FileSet } from './files.js'

/** Elements converted between two looks at the clock. */
const CHUNK_ELEMENTS = 64 * 1024

/** Progress of a load: bytes of the files read so far. */
export interface ReadOptions {
  signal?: AbortSignal
  onBytes?: (bytes: number) => void
}

/**
 * Reads every vector of a plan. The event loop is not held for longer than a few milliseconds.
 * @throws {@link MoeError} ERR_MOE_IO, ERR_MOE_INVALID_CHECKPOINT (a hash table that names experts that do not exist, a selection bias
 * that no model has); or
 * rejects with `signal.reason`
 */
export async function readVectors(plan: LayerPlan, options: ReadOptions = {}): Promise<VectorTensors> {
  const { signal, onBytes } = options
  signal?.throwIfAborted()
  const files = new FileSet(plan, signal)
  const pacer = new Pacer(signal)
  const result: Partial<Record<VectorName, Float32Array | Int32Array>> = {}
  try {
    for (const item of plan.vectors) {
      if (item.encoded) {
        result[item.target] = await readEncoded(item.encoded, files, pacer, onBytes)
        continue
      }
      if (item.made === 'zeros') {
        result[item.target] = allocate(Float32Array, item.length)
        continue
      }
      const integers = item.target === 'hashTable'
      const out = integers ? allocate(Int32Array, item.length) : allocate(Float32Array, item.length)
      let position = 0
      for (const source of item.sources) {
        const step = CHUNK_ELEMENTS * STORED_BYTES[source.type]
        for (let start = 0; start < source.bytes; start += step) {
          const bytes = await files.read(source, start, Math.min(step, source.bytes - start))
          position = integers
            ? copyIds(bytes, source, out as Int32Array, position, plan)
            : widen(bytes, source, item, out as Float32Array, position)
          onBytes?.(bytes.byteLength)
          if (pacer.due) await pacer.turn()
        }
      }
      for (const value of item.tail ?? []) out[position++] = value
      if (item.made === 'repeated') position = out.fill(out[0]!).length
      if (position !== item.length) {
        throw new MoeError('ERR_MOE_INTERNAL', `${item.target}: ${position} of ${item.length} elements read`)
      }
      if (item.target === 'selectionBias') {
        const [source] = item.sources
        checkSelectionBias(out as Float32Array, plan.config, source!.name, plan.files[source!.file])
      }
      result[item.target] = item.made === 'difference' ? differenceOfHalves(out as Float32Array) : out
    }
  } finally {
    await files.close()
  }
  return result as unknown as VectorTensors
}

/** The second half less the first: softmax over two logits is the sigmoid of their difference. */
function differenceOfHalves(both: Float32Array): Float32Array {
  const length = both.length / 2
  return both.subarray(length).map((value, i) => value - both[i]!)
}

/** A quantised router. */
async function readEncoded(
  item: NonNullable<VectorItem['encoded']>,
  files: FileSet,
  pacer: Pacer,
  onBytes: ReadOptions['onBytes'],
): Promise<Float32Array> {
  const { rows, cols, encoding } = item
  const buffers: Partial<EncodedBuffers> = {}
  for (const [part, segment] of partsOf(item)) {
    buffers[part] = { bytes: await files.read(segment), type: segment.type }
    onBytes?.(segment.bytes)
  }
  const decode = rowDecoder(encoding, buffers as EncodedBuffers, rows, cols)
  const out = allocate(Float32Array, rows * cols)
  for (let row = 0; row < rows; row++) {
    decode(row, out, row * cols)
    if (pacer.due) await pacer.turn()
  }
  return out
}

/** The chunk size is even, so that every chunk begins at an even element of its source. */
function widen(
  bytes: Uint8Array,
  source: Segment,
  item: VectorItem,
  out: Float32Array,
  position: number,
): number {
  const read = elementReader(bytes, source.type)
  const count = bytes.byteLength / STORED_BYTES[source.type]
  for (let i = item.start; i < count; i += item.step) out[position++] = read(i)
  return position
}

function copyIds(
  bytes: Uint8Array,
  source: Segment,
  out: Int32Array,
  position: number,
  plan: LayerPlan,
): number {
  const { numExperts } = plan.config
  const ids = source.type === 'I64' ? int64Of(bytes) : int32Of(bytes)
  for (const stored of ids) {
    const id = Number(stored)
    if (!(id >= 0 && id < numExperts)) {
      throw new MoeError(
        'ERR_MOE_INVALID_CHECKPOINT',
        `${plan.files[source.file]}: tensor '${source.name}' names expert ${stored} of ${numExperts}`,
        { details: { file: plan.files[source.file], tensor: source.name } },
      )
    }
    out[position++] = id
  }
  return position
}
