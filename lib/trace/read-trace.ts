/** Reads a trace and checks everything in it: what it gives can be counted on. */

import { readdir, stat } from 'node:fs/promises'
import path from 'node:path'
import { allocate } from '../block/allocate.js'
import { checkOptionKeys, invalidArgType } from '../block/errors.js'
import { Pacer } from '../checkpoint/pacer.js'
import { ioError } from '../checkpoint/regular-file.js'
import { segmentName, segmentNumber, type TraceLayer } from './format.js'
import { invalidTrace } from './invalid.js'
import { readSegment, type SegmentContents } from './read-segment.js'
import type { Trace } from './trace.js'

/**
 * Reads a trace that `record` wrote.
 *
 * @param source the directory of a trace, or one of its files, which is a trace of its own
 * @returns ids, calls and what the layers were
 * @throws {@link MoeError} ERR_MOE_IO where it cannot be read; ERR_MOE_TRACE_INVALID where it is no trace, or a damaged one;
 * ERR_MOE_OUT_OF_MEMORY; or rejects with `signal.reason`
 */
export async function readTrace(source: string, options: { signal?: AbortSignal } = {}): Promise<Trace> {
  if (typeof source !== 'string') throw invalidArgType('source', 'a string', source)
  checkOptionKeys(options, ['signal'])
  const pacer = new Pacer(options.signal)
  const files = await segmentFiles(source)
  const segments: SegmentContents[] = []
  for (const [number, file] of files.entries()) {
    options.signal?.throwIfAborted()
    const segment = await readSegment(file, pacer)
    const [first = segment] = segments
    if (files.length > 1 && segment.number !== number)
      throw invalidTrace(file, `it says that it is segment ${segment.number}, not ${number}`)
    if (segment.recording !== first.recording)
      throw invalidTrace(file, `it belongs to another recording than ${files[0]}`)
    if (segment.layersText !== first.layersText)
      throw invalidTrace(file, `its layers are not those of ${files[0]}`)
    if ((segment.weights === null) !== (first.weights === null))
      throw invalidTrace(file, `weights stand in some segments only`)
    segments.push(segment)
  }
  const trace = joined(segments)
  READ.add(trace)
  return trace
}

/** Traces that have been read, and are what they say. */
const READ = new WeakSet<object>()

/** Whether {@link readTrace} gave it. */
export const isTrace = (value: unknown): value is Trace =>
  typeof value === 'object' && value !== null && READ.has(value)

/**
 * The trace that an option gives: what {@link readTrace} gave, or where `record` wrote it.
 *
 * @throws TypeError ERR_MOE_INVALID_ARG_TYPE; and what {@link readTrace} throws
 */
export async function givenTrace(
  trace: unknown,
  name: string,
  signal: AbortSignal | undefined,
): Promise<Trace> {
  if (typeof trace === 'string') return readTrace(trace, { signal })
  if (!isTrace(trace)) throw invalidArgType(name, 'the path of a trace, or what readTrace gave', trace)
  return trace
}

/** The same calls of layers whose experts take other amounts of memory: recorded in one form, to be held in another. @param expertBytes of each layer */
export function withExpertBytes(trace: Trace, expertBytes: readonly number[]): Trace {
  const layers = trace.layers.map((layer, i) => ({ ...layer, expertBytes: expertBytes[i]! }))
  const other = { ...trace, layers }
  READ.add(other)
  return other
}

/** The files of a trace in order. */
async function segmentFiles(source: string): Promise<string[]> {
  let names: string[]
  try {
    const info = await stat(source)
    if (!info.isDirectory()) return [source]
    names = await readdir(source)
  } catch (error) {
    throw ioError(source, error)
  }
  const numbers = names.flatMap(name => segmentNumber(name) ?? []).sort((a, b) => a - b)
  if (numbers.length === 0)
    throw invalidTrace(source, `it holds no ${segmentName(0)}: is it the directory that was given to record?`)
  const missing = numbers.findIndex((number, index) => number !== index)
  if (missing >= 0) throw invalidTrace(source, `${segmentName(missing)} is missing`)
  return numbers.map(number => path.join(source, segmentName(number)))
}

function joined(segments: readonly SegmentContents[]): Trace {
  const [{ layers }] = segments as [SegmentContents]
  const numCalls = segments.reduce((sum, { calls }) => sum + calls.layer.length, 0)
  const calls = {
    layer: allocate(Int32Array, numCalls),
    rows: allocate(Int32Array, numCalls),
    micros: allocate(Float64Array, numCalls),
  }
  let at = 0
  for (const segment of segments) {
    for (const column of ['layer', 'rows', 'micros'] as const) calls[column].set(segment.calls[column], at)
    at += segment.calls.layer.length
  }
  const concat = <A extends Uint8Array | Uint16Array>(parts: readonly A[]): A => {
    if (parts.length === 1) return parts[0]!
    const total = parts.reduce((sum, part) => sum + part.length, 0)
    const kind = parts[0]!.constructor as new (length: number) => A
    const all = allocate(kind as never, total) as A
    let end = 0
    for (const part of parts) {
      all.set(part, end)
      end += part.length
    }
    return all
  }
  const ofLayer = <A extends Uint8Array | Uint16Array>(
    pick: (segment: SegmentContents) => readonly A[],
  ): A[] => layers.map((_: TraceLayer, index) => concat(segments.map(segment => pick(segment)[index]!)))
  return {
    layers,
    numCalls,
    numRows: calls.rows.reduce((sum, rows) => sum + rows, 0),
    calls,
    topkIds: ofLayer(segment => segment.ids),
    topkWeights: segments[0]!.weights === null ? null : ofLayer(segment => segment.weights!),
  }
}
