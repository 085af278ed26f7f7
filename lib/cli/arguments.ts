/** Reading the command line: what does not fit is a {@link UsageError}, which ends in exit status 2. */

import { parseArgs } from 'node:util'

/** The command line was not understood. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** One option: takes a text, or is a flag. */
interface Option {
  readonly type: 'string' | 'boolean'
  /** Stands for the text in the usage. */
  readonly value?: string
  /** What the usage says of it; may have several lines. */
  readonly help: string
}

/** Options of a command, in the order of its usage. */
export type OptionTable = Readonly<Record<string, Option>>

/** The options as lines of a usage. */
export function optionLines(options: OptionTable): string {
  const names = Object.entries(options).map(([name, { value }]) => `--${name}${value ? ` ${value}` : ''}`)
  const width = 2 + Math.max(...names.map(name => name.length)) + 2
  const rows = Object.values(options).map(
    ({ help }, i) => `  ${names[i]}`.padEnd(width) + help.replaceAll('\n', `\n${' '.repeat(width)}`),
  )
  return rows.join('\n')
}

/** What {@link parseCommandLine} found. */
export interface ParsedCommandLine<O extends OptionTable> {
  values: { [K in keyof O]?: O[K]['type'] extends 'boolean' ? boolean : string }
  positionals: string[]
}

/** `parseArgs`, strict, with its complaints as usage errors. `positionals` names the arguments, all of which are needed. */
export function parseCommandLine<O extends OptionTable>(
  args: string[],
  options: O,
  positionals: readonly string[],
): ParsedCommandLine<O> {
  let parsed: ParsedCommandLine<O>
  try {
    parsed = parseArgs({ args, options, allowPositionals: true, strict: true }) as ParsedCommandLine<O>
  } catch (error) {
    // Node's hint about '--' does not help anybody who mistyped an option.
    const [sentence] = (error as Error).message.split('. To specify a positional argument')
    throw new UsageError(sentence!)
  }
  const given = parsed.positionals.length
  if (given < positionals.length) throw new UsageError(`Missing argument <${positionals[given]}>`)
  if (given > positionals.length)
    throw new UsageError(`Unexpected argument '${parsed.positionals[positionals.length]}'`)
  return parsed
}

/** An integer option of at least `min`. */
export function integerOption(name: string, text: string | undefined, min: number): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < min) {
    throw new UsageError(`Expected an integer of at least ${min} for --${name}, received '${text}'`)
  }
  return value
}

/** A number in (0, 1]. */
export function fractionOption(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (text.trim() === '' || !(value > 0 && value <= 1)) {
    throw new UsageError(`Expected a number in (0, 1] for --${name}, received '${text}'`)
  }
  return value
}

/** One of a few words. */
export function choiceOption<T extends string>(
  name: string,
  text: string | undefined,
  choices: readonly T[],
): T | undefined {
  if (text === undefined) return undefined
  if (!choices.includes(text as T)) {
    throw new UsageError(`Expected one of ${choices.join(', ')} for --${name}, received '${text}'`)
  }
  return text as T
}
