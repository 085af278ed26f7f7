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
