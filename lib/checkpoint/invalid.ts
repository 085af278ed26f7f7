/** The error of a malformed file. */

import { MoeError } from '../block/errors.js'

/** A `MoeError` with ERR_MOE_INVALID_CHECKPOINT that names the file. */
export function invalidCheckpoint(
  file: string,
  message: string,
  details: { tensor?: string; offset?: number } = {},
): MoeError {
  return new MoeError('ERR_MOE_INVALID_CHECKPOINT', `${file}: ${message}`, { details: { file, ...details } })
}

/** What helps where a file is shorter than it should be. */
export const AGAIN = 'the download is not complete: fetch the file again'

/** What helps where a file is of the right length and makes no sense. */
export const DAMAGED = 'the download is damaged: fetch the file again'

/** What helps with text that should be a JSON object and is none; '' where nothing about it says that the download failed. */
export function jsonHint(text: string): string {
  const trimmed = text.trim()
  if (trimmed !== '' && !trimmed.startsWith('{')) return `; ${DAMAGED}`
  return trimmed.endsWith('}') ? '' : `; ${AGAIN}`
}
