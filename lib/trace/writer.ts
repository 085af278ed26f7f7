/** Writes a trace, segment after segment, while calls go on. */

import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { invalidArgValue, MoeError } from '../block/errors.js'
import { writeSafetensors } from '../checkpoint/writer.js'
import { idStorage, segmentName, segmentNumber, TRACE_FORMAT, type TraceLayer } from './format.js'
import { Segment } from './segment.js'

/** A segment is written when it has so many bytes: small enough that little is lost with a process that ends suddenly. */
const SEGMENT_BYTES = 16 * 1024 * 1024

/** What a writer is told of a call. */
export interface TracedCall {
  /** Index of the layer in the trace. */
  index: number
  /** `[rows, topK]`, −1 where no expert ran. */
  topkIds: Int32Array
  /** `[rows, topK]`, bits of f16. */
  topkWeights: Uint16Array | null
  micros: number
  /** It ran as one with the call of the layer before it. */
  isJoined: boolean
}

/**
 * Makes a directory and those that it lies in, where they are not there. Node's own `recursive` never returns on Windows for a name that cannot be
 * made, as one of too many characters: it takes "no such file" for a parent that is missing, for ever.
 */
function makeDirectory(directory: string): void {
  if (existsSync(directory)) return
  const parent = path.dirname(directory)
  if (parent !== directory) makeDirectory(parent)
  try {
    mkdirSync(directory)
  } catch (error) {
    // Somebody else was faster.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
}

/** Files of one recording. */
export class TraceWriter {
  readonly #directory: string
  readonly #layers: readonly TraceLayer[]
  readonly #withWeights: boolean
  readonly #segmentBytes: number
  readonly #recording = randomUUID()
  #segment: Segment
  #calls = 0
  #written = 0
  #writtenBytes = 0
  #writing: Promise<void> = Promise.resolve()
  #failure: MoeError | null = null

  /** @throws {@link MoeError} ERR_MOE_IO; RangeError ERR_MOE_INVALID_ARG_VALUE where the directory holds a trace */
  constructor(
    directory: string,
    layers: readonly TraceLayer[],
    { withWeights, segmentBytes = SEGMENT_BYTES }: { withWeights: boolean; segmentBytes?: number },
  ) {
    this.#directory = directory
    this.#layers = layers
    this.#withWeights = withWeights
    this.#segmentBytes = segmentBytes
    this.#segment = new Segment(layers, withWeights)
    let names: string[]
    try {
      makeDirectory(directory)
      names = readdirSync(directory)
    } catch (error) {
      throw cannotWrite(directory, error)
    }
    if (names.some(name => segmentNumber(name) !== undefined))
      throw invalidArgValue('directory', 'a directory that holds no trace yet', directory)
  }

  get calls(): number {
    return this.#calls
  }

  /** Bytes of all calls so far, written or not. */
  get bytes(): number {
    return this.#writtenBytes + this.#segment.bytes
  }

  /** Why nothing more is written; null while all is well. */
  get failure(): MoeError | null {
    return this.#failure
  }

  add({ index, topkIds, topkWeights, micros, isJoined }: TracedCall): void {
    if (this.#failure) return
    // Only between calls, because calls that ran as one stand in one segment.
    if (!isJoined && this.#segment.bytes >= this.#segmentBytes) this.#flush()
    const { none } = idStorage(this.#layers[index]!.numExperts)
    const ids = topkIds.map(id => (id < 0 ? none : id))
    if (this.#segment.add(index, ids, this.#withWeights ? topkWeights : null, micros, isJoined)) this.#calls++
  }

  /** Writes what is left. @throws {@link MoeError} ERR_MOE_IO where any segment could not be written */
  async end(): Promise<void> {
    // A recording without calls is a trace too.
    if (this.#segment.numCalls > 0 || this.#written === 0) this.#flush()
    await this.#writing
    if (this.#failure) throw this.#failure
  }

  #flush(): void {
    const segment = this.#segment
    this.#segment = new Segment(this.#layers, this.#withWeights)
    this.#writtenBytes += segment.bytes
    const number = this.#written++
    this.#writing = this.#writing.then(() => this.#write(segment, number))
  }

  async #write(segment: Segment, number: number): Promise<void> {
    if (this.#failure) return
    const file = path.join(this.#directory, segmentName(number))
    // A reader must not meet half of a file.
    const partial = `${file}.partial`
    try {
      await writeSafetensors(partial, segment.tensors(), {
        format: TRACE_FORMAT,
        recording: this.#recording,
        segment: String(number),
        layers: JSON.stringify(this.#layers),
      })
      await rename(partial, file)
    } catch (error) {
      this.#failure = error instanceof MoeError ? error : cannotWrite(file, error)
      await rm(partial, { force: true }).catch(() => {})
    }
  }
}

function cannotWrite(file: string, cause: unknown): MoeError {
  return new MoeError('ERR_MOE_IO', `Cannot write ${file}: ${(cause as Error).message}`, {
    cause,
    details: { file, errno: (cause as NodeJS.ErrnoException).code },
  })
}
