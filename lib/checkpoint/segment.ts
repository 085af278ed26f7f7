/** Runs of bytes in the files of a checkpoint. */

import type { StoredType } from '../spec/formats.js'

/** A run of bytes in a file: one tensor, or the slice of one that belongs to one matrix. Dense, little-endian. */
export interface Segment {
  /** Index into the plan's list of files. */
  file: number
  /** From the beginning of the file. */
  offset: number
  bytes: number
  type: StoredType
  /** For messages. */
  name: string
}
