/** One file of a trace, checked: header, metadata, tensors, and that every call and every id means something. */

import { allocate } from '../block/allocate.js'
import { MoeError } from '../block/errors.js'
import type { Pacer } from '../checkpoint/pacer.js'
import { type ReadableFile, readFully, withRegularFile } from '../checkpoint/regular-file.js'
import { readSafetensorsHeader, type TensorEntry } from '../checkpoint/safetensors.js'
import { CALL_COLUMNS, idStorage, idsName, TRACE_FORMAT, type TraceLayer, weightsName } from './format.js'
import { invalidTrace } from './invalid.js'
import { parseLayers } from './layers.js'

/** What a segment holds. */
export interface SegmentContents {
  readonly number: number
  readonly recording: string
  readonly layers: readonly TraceLayer[]
  /** The layers as the metadata states them. */
  readonly layersText: string
  /** As in {@link Trace}. */
  readonly calls: { layer: Int32Array; rows: Int32Array; micros: Float64Array }
  readonly ids: readonly (Uint8Array | Uint16Array)[]
  readonly weights: readonly Uint16Array[] | null
}

/** Elements that are looked at between two looks at the clock. */
const PIECE = 65_536

/** @throws {@link MoeError} ERR_MOE_IO, ERR_MOE_TRACE_INVALID, ERR_MOE_OUT_OF_MEMORY */
export async function readSegment(file: string, pacer: Pacer): Promise<SegmentContents> {
  try {
    return await withRegularFile(file, pacer, (handle, size) => contentsOf(handle, size, file, pacer))
  } catch (error) {
    if (!(error instanceof MoeError) || error.code !== 'ERR_MOE_INVALID_CHECKPOINT') throw error
    // A safetensors file that is none; the message begins with the file's name.
    throw invalidTrace(file, error.message.slice(file.length + 2), error)
  }
}

async function contentsOf(
  handle: ReadableFile,
  size: number,
  file: string,
  pacer: Pacer,
): Promise<SegmentContents> {
  const { tensors, metadata } = await readSafetensorsHeader(handle, size, file, pacer)
  const format = metadata.get('format')
  if (format !== TRACE_FORMAT) {
    const what = format === undefined ? 'it names no format' : `its format is '${format.slice(0, 40)}'`
    throw invalidTrace(file, `${what}; a trace of this version has '${TRACE_FORMAT}'`)
  }
  const text = (key: string): string => {
    const value = metadata.get(key)
    if (value === undefined || value === '') throw invalidTrace(file, `the metadata has no '${key}'`)
    return value
  }
  const number = text('segment')
  if (!/^(0|[1-9]\d{0,8})$/.test(number)) throw invalidTrace(file, "'segment' of the metadata is no number")
  const layers = parseLayers(text('layers'), file)

  const known = new Set(['calls', ...layers.flatMap(({ layer }) => [idsName(layer), weightsName(layer)])])
  for (const name of tensors.keys())
    if (!known.has(name))
      throw invalidTrace(file, `it holds a tensor '${name.slice(0, 80)}', which no trace has`)
  const tensor = (name: string, dtype: string, cols: number): TensorEntry => {
    const entry = tensors.get(name)
    if (!entry) throw invalidTrace(file, `tensor '${name}' is missing`)
    if (entry.dtype !== dtype || entry.shape.length !== 2 || entry.shape[1] !== cols)
      throw invalidTrace(
        file,
        `'${name}' is ${entry.dtype} [${entry.shape.join(', ')}]; expected ${dtype} [rows, ${cols}]`,
      )
    return entry
  }
  const read = async (entry: TensorEntry): Promise<Uint8Array<ArrayBuffer>> => {
    const bytes = allocate(Uint8Array, entry.bytes) as Uint8Array<ArrayBuffer>
    await readFully(handle, bytes, entry.offset, file, pacer.signal)
    return bytes
  }

  const ids: (Uint8Array | Uint16Array)[] = []
  for (const layer of layers) {
    const { dtype, array, none } = idStorage(layer.numExperts)
    const bytes = await read(tensor(idsName(layer.layer), dtype, layer.topK))
    const own = array === Uint8Array ? bytes : new Uint16Array(bytes.buffer)
    for (let i = 0; i < own.length; i++) {
      if (own[i]! >= layer.numExperts && own[i] !== none)
        throw invalidTrace(file, `'${idsName(layer.layer)}' names expert ${own[i]} of ${layer.numExperts}`)
      if (i % PIECE === 0 && pacer.due) await pacer.turn()
    }
    ids.push(own)
  }
  const weights = await readWeights(layers, ids, tensors, file, async layer =>
    read(tensor(weightsName(layer.layer), 'F16', layer.topK)),
  )
  const calls = await callsOf(await read(tensor('calls', 'I64', CALL_COLUMNS)), layers, ids, file, pacer)
  return {
    ...{ number: Number(number), recording: text('recording'), layers, layersText: text('layers') },
    ...{ calls, ids, weights },
  }
}

async function readWeights(
  layers: readonly TraceLayer[],
  ids: readonly (Uint8Array | Uint16Array)[],
  tensors: ReadonlyMap<string, TensorEntry>,
  file: string,
  read: (layer: TraceLayer) => Promise<Uint8Array<ArrayBuffer>>,
): Promise<Uint16Array[] | null> {
  if (!layers.some(({ layer }) => tensors.has(weightsName(layer)))) return null
  const weights: Uint16Array[] = []
  for (const [index, layer] of layers.entries()) {
    const bytes = await read(layer)
    const own = new Uint16Array(bytes.buffer)
    if (own.length !== ids[index]!.length)
      throw invalidTrace(file, `'${weightsName(layer.layer)}' has other rows than '${idsName(layer.layer)}'`)
    weights.push(own)
  }
  return weights
}

/** The table of calls, of which every row must be the next of its layer. */
async function callsOf(
  bytes: Uint8Array<ArrayBuffer>,
  layers: readonly TraceLayer[],
  ids: readonly (Uint8Array | Uint16Array)[],
  file: string,
  pacer: Pacer,
): Promise<SegmentContents['calls']> {
  const table = new BigInt64Array(bytes.buffer)
  const numCalls = table.length / CALL_COLUMNS
  const indexOf = new Map(layers.map(({ layer }, index) => [BigInt(layer), index]))
  const rowsOf = layers.map(({ topK }, index) => ids[index]!.length / topK)
  const next = layers.map(() => 0)
  const layer = allocate(Int32Array, numCalls)
  const rows = allocate(Int32Array, numCalls)
  const micros = allocate(Float64Array, numCalls)
  for (let call = 0; call < numCalls; call++) {
    const column = (index: number): bigint => table[call * CALL_COLUMNS + index]!
    const [number, first, count, time] = [column(0), column(1), column(2), column(3)]
    const wrong = (what: string) => invalidTrace(file, `call ${call}: ${what}`)
    const index = indexOf.get(number)
    if (index === undefined) throw wrong(`there is no layer ${number}`)
    if (first !== BigInt(next[index]!))
      throw wrong(`it begins at row ${first} of layer ${number}, where row ${next[index]} is next`)
    if (count < 1n || count > BigInt(rowsOf[index]! - next[index]!))
      throw wrong(`${count} rows from row ${first} of layer ${number}, which has ${rowsOf[index]}`)
    if (time < 0n || time > BigInt(Number.MAX_SAFE_INTEGER)) throw wrong(`its time is ${time}`)
    next[index]! += Number(count)
    layer[call] = index
    rows[call] = Number(count)
    micros[call] = Number(time)
    if (call % PIECE === 0 && pacer.due) await pacer.turn()
  }
  const unclaimed = next.findIndex((end, index) => end !== rowsOf[index])
  if (unclaimed >= 0)
    throw invalidTrace(
      file,
      `rows of layer ${layers[unclaimed]!.layer} from ${next[unclaimed]} on belong to no call`,
    )
  return { layer, rows, micros }
}
