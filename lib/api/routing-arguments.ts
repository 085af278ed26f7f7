/** Checks of the arguments that `forward` and `selectExperts` have in common: top-k, top-p, sequence lengths. */

import { allocate } from '../block/allocate.js'
import { invalidArgShape, invalidArgType, invalidArgValue } from '../block/errors.js'
import { isFloat32Array, isInt32Array, isUint8Array } from '../block/typed-arrays.js'
import { checkBuffer } from './leases.js'

/** An optional Int32Array of `length`, or of any. */
export function int32Option(name: string, value: unknown, length?: number): Int32Array | null {
  if (value === undefined) return null
  if (!isInt32Array(value)) throw invalidArgType(name, 'an Int32Array', value)
  checkBuffer(name, value)
  if (length !== undefined && value.length !== length) {
    throw invalidArgShape(name, `[${length}]`, `${value.length} elements`)
  }
  return value
}

/** Experts per token of a call: one figure or one per row, `topK` where absent. */
export function checkTopK(value: unknown, topK: number, numTokens: number): number | Uint8Array {
  if (value === undefined) return topK
  if (typeof value === 'number') {
    if (!Number.isInteger(value) || value < 0 || value > topK) {
      throw invalidArgValue('topK', `an integer from 0 to ${topK}`, value)
    }
    return value
  }
  if (!isUint8Array(value)) throw invalidArgType('topK', 'a number or a Uint8Array', value)
  checkBuffer('topK', value)
  if (value.length !== numTokens) throw invalidArgShape('topK', `[${numTokens}]`, `${value.length} elements`)
  for (const rowTopK of value) {
    if (rowTopK > topK) throw invalidArgValue('topK', `integers from 0 to ${topK}`, rowTopK)
  }
  return value
}

/** Tokens per sequence, summing to `numTokens`. */
export function checkSequenceLengths(value: unknown, numTokens: number): Int32Array | null {
  const lengths = int32Option('sequenceLengths', value)
  if (!lengths) return null
  let sum = 0
  for (const length of lengths) {
    if (length < 0) throw invalidArgValue('sequenceLengths', 'non-negative lengths', length)
    sum += length
  }
  if (sum !== numTokens) {
    throw invalidArgShape('sequenceLengths', `lengths that sum to ${numTokens}`, `a sum of ${sum}`)
  }
  return lengths
}

/** In (0, 1], for every row or per row, as the copy that a call keeps; 1 where absent. */
export function checkTopP(value: unknown, numTokens: number): number | Float64Array {
  if (value === undefined) return 1
  if (typeof value === 'number') return checkShare(value)
  if (!isFloat32Array(value)) throw invalidArgType('topP', 'a number or a Float32Array', value)
  checkBuffer('topP', value)
  if (value.length !== numTokens) throw invalidArgShape('topP', `[${numTokens}]`, `${value.length} elements`)
  value.forEach(checkShare)
  return allocate(Float64Array, value)
}

function checkShare(value: number): number {
  if (!(value > 0 && value <= 1)) throw invalidArgValue('topP', 'a number in (0, 1]', value)
  return value
}
