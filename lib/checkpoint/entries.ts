/** What a directory holds, for hints: bounded, and never an error. */

import type { Dirent } from 'node:fs'
import { readdir } from 'node:fs/promises'

/** Most entries of a directory that are looked at for a hint. */
const MAX_ENTRIES = 4096

/** Entries of a directory, at most some thousand; none where it cannot be read. */
export async function entriesOf(directory: string): Promise<Dirent[]> {
  try {
    return (await readdir(directory, { withFileTypes: true })).slice(0, MAX_ENTRIES)
  } catch {
    return []
  }
}
