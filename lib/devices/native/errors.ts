/** Errors of the addon as errors of the package. */

import { MoeError, type MoeErrorCode } from '../../block/errors.js'
import { CANCELLED } from '../contract.js'
import type { NativeError } from './binding-contract.js'

/** What the addon was doing: the same code means another thing while a checkpoint is read. */
export type NativeActivity = 'run' | 'load'

const CODES: Partial<Record<NativeError['moeCode'], MoeErrorCode>> = {
  OUT_OF_MEMORY: 'ERR_MOE_OUT_OF_MEMORY',
  DEVICE_UNAVAILABLE: 'ERR_MOE_DEVICE_UNAVAILABLE',
  DEVICE_LOST: 'ERR_MOE_DEVICE_LOST',
  INTERNAL: 'ERR_MOE_INTERNAL',
  IO: 'ERR_MOE_IO',
  DISPOSED: 'ERR_MOE_DISPOSED',
  DETACHED: 'ERR_MOE_BUFFER_DETACHED',
  CACHE_TOO_SMALL: 'ERR_MOE_CACHE_TOO_SMALL',
}

function isNativeError(error: unknown): error is NativeError {
  return error instanceof Error && typeof (error as Partial<NativeError>).moeCode === 'string'
}

/** Where a call was made, taken before its work leaves the JavaScript thread. */
export interface CallSite {
  stack?: string
}

/** Cheap until somebody reads it: V8 formats a stack at first access. */
export function captureCallSite(above: (...args: never[]) => unknown): CallSite {
  const site: CallSite = {}
  Error.captureStackTrace(site, above)
  return site
}

/** A MoeError, a RangeError with a code, or {@link CANCELLED}. Anything that is not the addon's passes unchanged. */
export function fromNativeError(error: unknown, activity: NativeActivity, site?: CallSite): unknown {
  if (!isNativeError(error)) return error
  if (error.moeCode === 'CANCELLED') return CANCELLED
  const translated = translate(error, activity)
  const frames = site?.stack?.split('\n').slice(1).join('\n')
  if (frames) translated.stack = `${translated.name}: ${translated.message}\n${frames}`
  return translated
}

function translate(error: NativeError, activity: NativeActivity): Error {
  if (error.moeCode === 'INVALID_ARGUMENT') {
    if (activity === 'load')
      return new MoeError('ERR_MOE_INVALID_CHECKPOINT', error.message, { cause: error })
    const wrong = new RangeError(error.message, { cause: error })
    return Object.defineProperty(wrong, 'code', { value: 'ERR_MOE_INVALID_ARG_VALUE', enumerable: true })
  }
  const { neededBytes, freeBytes } = error
  if (error.moeCode === 'CACHE_TOO_SMALL') {
    return new MoeError(
      'ERR_MOE_CACHE_TOO_SMALL',
      `${error.message}: raise cache.hostBytes, or cache.deviceBytes on a GPU`,
      {
        cause: error,
        details: { neededBytes, cacheBytes: freeBytes },
      },
    )
  }
  return new MoeError(CODES[error.moeCode] ?? 'ERR_MOE_INTERNAL', error.message, {
    cause: error,
    ...(neededBytes === undefined ? {} : { details: { neededBytes, freeBytes } }),
  })
}
