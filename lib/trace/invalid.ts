/** The error of a trace that is none. */

import { MoeError } from '../block/errors.js'

/** A `MoeError` with ERR_MOE_TRACE_INVALID that names the file. */
export function invalidTrace(file: string, message: string, cause?: unknown): MoeError {
  return new MoeError(
    'ERR_MOE_TRACE_INVALID',
    `${file}: ${message}`,
    cause === undefined ? { details: { file } } : { details: { file }, cause },
  )
}
