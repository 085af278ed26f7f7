/** What the command lines of the benchmarks share: a word that means nothing is an error, not an empty table. */

import { type ParseArgsConfig, parseArgs } from 'node:util'
import type { DType } from './package.js'

export const DTYPES: readonly DType[] = ['f32', 'bf16', 'f16']

/** What a wrong command line gets instead of a stack. */
export class UsageError extends Error {}

/** Values of `--name value` for each of `names`, and of the switches. @throws {@link UsageError} for any other word */
export function parseValues<N extends string>(args: readonly string[], names: readonly N[]) {
  const options: NonNullable<ParseArgsConfig['options']> = { quick: { type: 'boolean', default: false } }
  for (const name of names) options[name] = { type: 'string' }
  try {
    const { values } = parseArgs({ args: [...args], options })
    return values as Partial<Record<N, string>> & { quick: boolean }
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

const split = (value: string) => value.split(',').filter(Boolean)

/** A list of known words without repeats; undefined where nothing was given. */
export function words<W extends string>(
  name: string,
  value: string | undefined,
  known: readonly W[],
): W[] | undefined {
  if (value === undefined) return undefined
  const chosen = split(value)
  const wrong = chosen.find(word => !(known as readonly string[]).includes(word))
  if (wrong !== undefined || chosen.length === 0) {
    throw new UsageError(`--${name} takes ${known.join(', ')}; got '${wrong ?? value}'`)
  }
  return [...new Set(chosen)] as W[]
}

/** A list of whole numbers without repeats; undefined where nothing was given. */
export function numbers(name: string, value: string | undefined, least: number): number[] | undefined {
  if (value === undefined) return undefined
  const chosen = split(value).map(Number)
  if (chosen.length === 0 || !chosen.every(number => Number.isInteger(number) && number >= least)) {
    throw new UsageError(`--${name} takes whole numbers from ${least}; got '${value}'`)
  }
  return [...new Set(chosen)]
}

export function isOn(name: string, value: string | undefined): boolean {
  return words(name, value, ['on', 'off'])?.[0] !== 'off'
}

/** Those of `names` that contain one of the comma-separated words; all without a word. */
export function matching(filter: string, names: readonly string[]): string[] {
  const wanted = split(filter).map(word => word.toLowerCase())
  const chosen =
    wanted.length === 0
      ? [...names]
      : names.filter(name => wanted.some(word => name.toLowerCase().includes(word)))
  if (chosen.length === 0) throw new UsageError(`--filter ${filter} matches none of ${names.join(', ')}`)
  return chosen
}

/** Runs a benchmark's main; `--help` and a wrong command line print the usage. */
export async function runCommand(usage: string, main: (args: readonly string[]) => Promise<void>) {
  const args = process.argv.slice(2)
  try {
    if (args.includes('--help')) console.log(usage)
    else await main(args)
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    console.error(`${error.message}\n\n${usage}`)
    process.exitCode = 2
  }
}
