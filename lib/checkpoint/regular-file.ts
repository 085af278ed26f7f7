/**
 * Opening and reading the files of a checkpoint. A checkpoint is somebody else's directory: what stands under a name may be a FIFO, a
 * device, a directory or a link to one, and must neither block nor be read without end.
 */

import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { allocate } from '../block/allocate.js'
import { MoeError } from '../block/errors.js'
import { otherThan, PROBE_BYTES } from './diagnosis.js'
import { danglingLink } from './hub-cache.js'
import { DAMAGED, invalidCheckpoint } from './invalid.js'
import { type Pacer, textOf } from './pacer.js'

/** Opening a FIFO without O_NONBLOCK waits for a writer; O_NOCTTY keeps a terminal from becoming the process's own. */
const FLAGS = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0) | (constants.O_NOCTTY ?? 0)

const BYTE_ORDER_MARK = 0xfeff

/** Largest single read: an abort is noticed between two. */
const PIECE_BYTES = 4 * 1024 * 1024

/** ERR_MOE_IO for what the system said of a file; `hint` says what was expected there. */
export function ioError(file: string, cause: unknown, hint = ''): MoeError {
  const code = (cause as NodeJS.ErrnoException).code
  const reason = code === 'ENOENT' ? 'no such file or directory' : ((cause as Error).message ?? String(cause))
  const help = code === 'ERR_ACCESS_DENIED' ? `; start Node with '--allow-fs-read=${file}' too` : hint
  return new MoeError('ERR_MOE_IO', `Cannot read ${file}: ${reason}${help}`, {
    cause,
    details: { file, errno: code },
  })
}

/**
 * Opens a regular file for reading, without ever waiting for what it is not.
 * @throws {@link MoeError} ERR_MOE_IO where it cannot be opened, ERR_MOE_INVALID_CHECKPOINT where it is not a regular file
 */
export async function openRegular(
  file: string,
  hint?: string,
): Promise<{ handle: FileHandle; bytes: number }> {
  let handle: FileHandle
  try {
    handle = await open(file, FLAGS)
  } catch (error) {
    // A socket, or a device without a driver.
    if ((error as NodeJS.ErrnoException).code === 'ENXIO') throw invalidCheckpoint(file, 'not a regular file')
    const dangling = await danglingLink(file)
    throw ioError(file, error, dangling ? `; it ${dangling}` : hint)
  }
  try {
    const info = await handle.stat()
    if (!info.isFile()) throw invalidCheckpoint(file, 'not a regular file')
    return { handle, bytes: info.size }
  } catch (error) {
    await handle.close()
    throw error instanceof MoeError ? error : ioError(file, error)
  }
}

/** Runs `body` on an opened regular file and closes it. Errors that are not ours become ERR_MOE_IO. */
export async function withRegularFile<Result>(
  file: string,
  pacer: Pacer,
  body: (handle: FileHandle, bytes: number) => Promise<Result>,
  hint?: string,
): Promise<Result> {
  pacer.signal?.throwIfAborted()
  const opened = await openRegular(file, hint)
  try {
    return await useRegularFile(file, opened, pacer, body)
  } finally {
    await opened.handle.close()
  }
}

/** Runs `body` on a regular file that is open. Errors that are not ours become ERR_MOE_IO; the pacer's `signal.reason` stays. */
export async function useRegularFile<Result>(
  file: string,
  { handle, bytes }: { handle: FileHandle; bytes: number },
  pacer: Pacer,
  body: (handle: FileHandle, bytes: number) => Promise<Result>,
): Promise<Result> {
  try {
    pacer.signal?.throwIfAborted()
    return await body(handle, bytes)
  } catch (error) {
    throw rethrown(file, error, pacer.signal)
  }
}

/** What a body that read `file` rejects with: errors of ours and `signal.reason` as they are, others as ERR_MOE_IO. */
function rethrown(file: string, error: unknown, signal: AbortSignal | undefined): unknown {
  if (error instanceof MoeError || (signal?.aborted && error === signal.reason)) return error
  return ioError(file, error)
}

/** The part of `fs.promises.FileHandle` that is used. */
export interface ReadableFile {
  read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }>
}

/** Fills `buffer` from `position`; a short read is ERR_MOE_INVALID_CHECKPOINT (the file is shorter than it was). */
export async function readFully(
  file: ReadableFile,
  buffer: Uint8Array,
  position: number,
  name: string,
  signal?: AbortSignal,
): Promise<void> {
  let done = 0
  while (done < buffer.byteLength) {
    signal?.throwIfAborted()
    const length = Math.min(buffer.byteLength - done, PIECE_BYTES)
    const { bytesRead } = await file.read(buffer, done, length, position + done)
    if (bytesRead <= 0) throw invalidCheckpoint(name, 'ends early', { offset: position + done })
    done += bytesRead
  }
}

/** The first `bytes` of a file, or all where it has fewer. */
export function readBeginning(file: string, bytes: number, pacer: Pacer): Promise<Uint8Array> {
  return withRegularFile(file, pacer, async (handle, size) => {
    const beginning = allocate(Uint8Array, Math.min(bytes, size))
    await readFully(handle, beginning, 0, file, pacer.signal)
    return beginning
  })
}

/**
 * The text of a file of at most `maxBytes`.
 * @throws {@link MoeError} ERR_MOE_IO; ERR_MOE_INVALID_CHECKPOINT where it is no regular file, larger, or not UTF-8
 */
export function readText(file: string, maxBytes: number, pacer: Pacer, hint?: string): Promise<string> {
  return withRegularFile(
    file,
    pacer,
    async (handle, bytes) => {
      if (bytes > maxBytes) throw invalidCheckpoint(file, `${bytes} bytes are above the cap of ${maxBytes}`)
      const buffer = allocate(Uint8Array, bytes)
      await readFully(handle, buffer, 0, file, pacer.signal)
      const text = await textOf(buffer, pacer, () =>
        invalidCheckpoint(file, otherThan(buffer.subarray(0, PROBE_BYTES)) ?? `not UTF-8; ${DAMAGED}`),
      )
      return text.charCodeAt(0) === BYTE_ORDER_MARK ? text.slice(1) : text
    },
    hint,
  )
}
