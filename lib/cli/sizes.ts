/** Amounts of memory and rates on the command line: 4GB, 512MiB, 25%, 2.5GB/s. */

import { invalidOption } from './arguments.js'

const UNITS: Record<string, number> = {
  ...{ '': 1, b: 1, k: 1e3, kb: 1e3, m: 1e6, mb: 1e6, g: 1e9, gb: 1e9, t: 1e12, tb: 1e12 },
  ...{ kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, tib: 2 ** 40 },
}

/** Bytes of '24GB', '512MiB' or '1000'. @throws {@link UsageError} ERR_MOE_INVALID_ARG_VALUE */
export function parseBytes(name: string, text: string): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim()) ?? []
  const factor = Object.hasOwn(UNITS, (unit ?? '').toLowerCase())
    ? UNITS[(unit ?? '').toLowerCase()]
    : undefined
  const bytes = Math.floor(Number(digits) * (factor ?? Number.NaN))
  if (digits === undefined || !Number.isSafeInteger(bytes) || bytes < 1)
    throw invalidOption(name, 'an amount of bytes as 24GB or 512MiB', text)
  return bytes
}

/** As {@link parseBytes}, or '25%' of `whole`. */
export function parseShare(name: string, text: string, whole: number): number {
  const [, digits] = /^(\d+(?:\.\d+)?)\s*%$/.exec(text.trim()) ?? []
  if (digits === undefined) return parseBytes(name, text)
  if (!(Number(digits) > 0 && Number(digits) <= 100))
    throw invalidOption(name, 'a share above 0% and up to 100%', text)
  return Math.floor((whole * Number(digits)) / 100)
}

/** Bytes per second of '2.5GB/s'; the '/s' may be left out. */
export function parseRate(name: string, text: string | undefined): number | undefined {
  return text === undefined ? undefined : parseBytes(name, text.replace(/\/s$/, ''))
}

/** The parts of 'a,b,c'. */
export function listOption(name: string, text: string): string[] {
  const parts = text.split(',').map(part => part.trim())
  if (parts.includes('')) throw invalidOption(name, 'values with commas between them', text)
  return parts
}
