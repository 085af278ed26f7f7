/** The files of a checkpoint: each is opened once, stays open, and is read again only while it is the file that it was. */

import type { FileHandle } from 'node:fs/promises'
import { stat } from 'node:fs/promises'
import { MoeError } from '../block/errors.js'
import type { Pacer } from './pacer.js'
import { ioError, openRegular, useRegularFile } from './regular-file.js'

/** What tells a file from one that was written later. */
interface Identity {
  readonly size: bigint
  readonly mtimeNs: bigint
}

/** A file that is open. */
export interface OpenFile {
  readonly handle: FileHandle
  readonly bytes: number
  readonly identity: Identity
}

/** Files by absolute path. To be closed in a `finally`, or by whoever has the checkpoint. */
export class OpenFiles {
  readonly #files = new Map<string, Promise<OpenFile>>()
  #isClosed = false

  /**
   * A regular file, opened at the first call.
   *
   * @param hint what an error says besides where there is no such file
   * @throws {@link MoeError} ERR_MOE_IO, ERR_MOE_INVALID_CHECKPOINT; ERR_MOE_DISPOSED once they are closed
   */
  open(file: string, hint?: string): Promise<OpenFile> {
    if (this.#isClosed) {
      throw new MoeError(
        'ERR_MOE_DISPOSED',
        `The checkpoint of ${file} is closed: load from it before close(), or open it again`,
      )
    }
    let opened = this.#files.get(file)
    if (!opened) {
      opened = openIdentified(file, hint)
      this.#files.set(file, opened)
      // A file that is not there yet may come.
      opened.catch(() => this.#files.delete(file))
    }
    return opened
  }

  /** Runs `body` on a file. Errors that are not ours become ERR_MOE_IO; the pacer's `signal.reason` stays. */
  async use<Result>(
    file: string,
    pacer: Pacer,
    body: (handle: FileHandle, bytes: number) => Promise<Result>,
    hint?: string,
  ): Promise<Result> {
    pacer.signal?.throwIfAborted()
    return useRegularFile(file, await this.open(file, hint), pacer, body)
  }

  /**
   * What was read from these files before, and what is read by their paths, is of one writing: their sizes and times are those that they had
   * when they were opened.
   * @throws {@link MoeError} ERR_MOE_IO
   */
  async checkUnchanged(files: Iterable<string>): Promise<void> {
    for (const file of new Set(files)) {
      const { handle, identity } = await this.open(file)
      let now: Identity[]
      try {
        now = [await handle.stat({ bigint: true }), await stat(file, { bigint: true })]
      } catch (error) {
        throw ioError(file, error, '; it has gone since the checkpoint was opened: open the checkpoint again')
      }
      const other = now.find(({ size, mtimeNs }) => size !== identity.size || mtimeNs !== identity.mtimeNs)
      if (!other) continue
      throw new MoeError(
        'ERR_MOE_IO',
        `${file} has changed since the checkpoint was opened: it had ${identity.size} bytes and has ${other.size}, ` +
          `written at ${timeOf(identity)} and ${timeOf(other)}; open the checkpoint again`,
        { details: { file, bytes: Number(other.size), expectedBytes: Number(identity.size) } },
      )
    }
  }

  /** Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true
    const files = [...this.#files.values()]
    this.#files.clear()
    await Promise.all(files.map(opened => opened.then(({ handle }) => handle.close()).catch(() => {})))
  }
}

async function openIdentified(file: string, hint: string | undefined): Promise<OpenFile> {
  const { handle, bytes } = await openRegular(file, hint)
  try {
    const { size, mtimeNs } = await handle.stat({ bigint: true })
    return { handle, bytes, identity: { size, mtimeNs } }
  } catch (error) {
    await handle.close()
    throw ioError(file, error)
  }
}

const timeOf = ({ mtimeNs }: Identity) => new Date(Number(mtimeNs / 1_000_000n)).toISOString()
