/** Reads a file from its beginning on, value by value, through a window of a few hundred kilobytes. */

import { allocate } from '../../block/allocate.js'
import { AGAIN, invalidCheckpoint } from '../invalid.js'
import type { Pacer } from '../pacer.js'
import { type ReadableFile, readFully } from '../regular-file.js'
import { MAX_HEADER_BYTES } from '../safetensors.js'

const WINDOW_BYTES = 256 * 1024

/** Little-endian values one after the other. {@link ByteCursor.ensure} comes before each: it fetches what the next reads take. */
export class ByteCursor {
  readonly name: string
  readonly size: number
  readonly pacer: Pacer
  private readonly file: ReadableFile
  private window: Uint8Array<ArrayBuffer>
  private view: DataView
  /** Of the window in the file. */
  private start = 0
  /** Bytes of the window that are read, and the next one of them. */
  private filled = 0
  private next = 0

  constructor(file: ReadableFile, size: number, name: string, pacer: Pacer) {
    this.file = file
    this.size = size
    this.name = name
    this.pacer = pacer
    this.window = allocate(Uint8Array, Math.min(size, WINDOW_BYTES))
    this.view = new DataView(this.window.buffer)
  }

  /** From the beginning of the file. */
  get position(): number {
    return this.start + this.next
  }

  /** Bytes of the file from here on. */
  get left(): number {
    return this.size - this.position
  }

  /** Throws ERR_MOE_INVALID_CHECKPOINT with the position in the file. */
  fail(problem: string, tensor?: string, offset = this.position): never {
    throw invalidCheckpoint(this.name, problem, { offset, ...(tensor === undefined ? {} : { tensor }) })
  }

  /** Makes the next `count` bytes readable; undefined where they are already. */
  ensure(count: number): Promise<void> | undefined {
    return this.filled - this.next >= count ? undefined : this.fetch(count)
  }

  private async fetch(count: number): Promise<void> {
    if (count > this.left) this.fail(`ends inside of its header, at byte ${this.size}; ${AGAIN}`)
    const position = this.position
    if (position + count > MAX_HEADER_BYTES)
      this.fail(`has a header above the cap of ${MAX_HEADER_BYTES} bytes`)
    if (count > this.window.byteLength) {
      this.window = allocate(Uint8Array, count)
      this.view = new DataView(this.window.buffer)
    }
    const bytes = Math.min(this.window.byteLength, this.size - position)
    this.start = position
    this.next = 0
    this.filled = 0
    await readFully(this.file, this.window.subarray(0, bytes), position, this.name, this.pacer.signal)
    this.filled = bytes
    if (this.pacer.due) await this.pacer.turn()
  }

  /** Passes over `count` bytes, read or not. */
  skip(count: number): void {
    if (count > this.left) this.fail(`ends inside of its header, at byte ${this.size}; ${AGAIN}`)
    if (this.next + count <= this.filled) {
      this.next += count
      return
    }
    this.start = this.position + count
    this.next = 0
    this.filled = 0
  }

  private advance(count: number): number {
    this.next += count
    return this.next - count
  }

  u8(): number {
    return this.view.getUint8(this.advance(1))
  }

  i8(): number {
    return this.view.getInt8(this.advance(1))
  }

  u16(): number {
    return this.view.getUint16(this.advance(2), true)
  }

  i16(): number {
    return this.view.getInt16(this.advance(2), true)
  }

  u32(): number {
    return this.view.getUint32(this.advance(4), true)
  }

  i32(): number {
    return this.view.getInt32(this.advance(4), true)
  }

  f32(): number {
    return this.view.getFloat32(this.advance(4), true)
  }

  f64(): number {
    return this.view.getFloat64(this.advance(8), true)
  }

  u64(): bigint {
    return this.view.getBigUint64(this.advance(8), true)
  }

  i64(): bigint {
    return this.view.getBigInt64(this.advance(8), true)
  }

  /** An unsigned 64-bit number of bytes or elements; one that no file can have is `fail`ed. */
  count(what: string): number {
    const offset = this.position
    const at = this.advance(8)
    const high = this.view.getUint32(at + 4, true)
    // 2^53 and more.
    if (high >= 0x200000)
      this.fail(`${what} of ${this.view.getBigUint64(at, true)} is no size of a file`, undefined, offset)
    return high * 2 ** 32 + this.view.getUint32(at, true)
  }

  /** The next `count` bytes, which the window has; valid until the next {@link ensure}. */
  bytes(count: number): Uint8Array {
    const at = this.advance(count)
    return this.window.subarray(at, at + count)
  }
}
