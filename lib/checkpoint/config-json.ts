/** config.json as text: parsed in linear time, with bounds on what a config may hold. */

import { MoeError } from '../block/errors.js'
import { jsonHint } from './invalid.js'

/** Largest config.json. Published ones have at most some hundred KiB, with the lists of modules that are not quantised. */
export const MAX_CONFIG_BYTES = 8 * 1024 * 1024

/** Deepest nesting of a config. Published ones have 6 levels. */
export const MAX_CONFIG_DEPTH = 100

const QUOTE = 34
const BACKSLASH = 92

function invalid(file: string, problem: string, cause?: unknown): MoeError {
  return new MoeError('ERR_MOE_INVALID_CONFIG', `${file} ${problem}`, {
    ...(cause === undefined ? {} : { cause }),
    details: { file },
  })
}

/** Index behind the string that begins at `start`, at its quote; the end of the text where it does not end. */
function endOfString(text: string, start: number): number {
  let i = start + 1
  for (; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === BACKSLASH) i++
    else if (c === QUOTE) return i + 1
  }
  return text.length
}

/** Replaces the bare NaN and Infinity that Python writes by null, and checks the depth. One pass, in which each character counts once. */
function plainJson(text: string, file: string): string {
  const pieces: string[] = []
  let copied = 0
  let depth = 0
  for (let i = 0; i < text.length; ) {
    const c = text.charCodeAt(i)
    if (c === QUOTE) {
      i = endOfString(text, i)
      continue
    }
    if (c === 0x7b || c === 0x5b) {
      if (++depth > MAX_CONFIG_DEPTH) throw invalid(file, `is nested deeper than ${MAX_CONFIG_DEPTH} levels`)
    } else if (c === 0x7d || c === 0x5d) depth--
    else if (c === 0x4e || c === 0x49) {
      const word = c === 0x4e ? 'NaN' : 'Infinity'
      if (text.startsWith(word, i)) {
        const start = i > 0 && text[i - 1] === '-' ? i - 1 : i
        pieces.push(text.slice(copied, start), 'null')
        i += word.length
        copied = i
        continue
      }
    }
    i++
  }
  return copied === 0 ? text : pieces.join('') + text.slice(copied)
}

/**
 * Parses config.json; the bare NaN and Infinity that Python writes are read as null.
 * @throws {@link MoeError} ERR_MOE_INVALID_CONFIG
 */
export function parseConfig(text: string, file: string): Record<string, unknown> {
  if (text.length > MAX_CONFIG_BYTES) throw invalid(file, `is longer than ${MAX_CONFIG_BYTES} bytes`)
  const json = plainJson(text, file)
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (cause) {
    throw invalid(file, `is not JSON: ${(cause as Error).message}${jsonHint(json)}`, cause)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(file, 'does not hold a JSON object')
  }
  return value as Record<string, unknown>
}
