/** Reading the command line: what does not fit is a {@link UsageError}, which ends in exit status 2. */

import { parseArgs } from 'node:util'
import { suggestion, UsageError } from './command-error.js'

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

/** An option as it was written. */
interface OptionToken {
  name: string
  rawName: string
  value: string | undefined
  inlineValue: boolean | undefined
}

/**
 * The options' values, and the arguments, which `positionals` names and all of which are needed. Judged here and not by `parseArgs`, whose messages
 * are another's in every version of Node.
 *
 * @throws {@link UsageError} ERR_MOE_UNKNOWN_OPTION, ERR_MOE_MISSING_ARGUMENT, ERR_MOE_UNEXPECTED_ARGUMENT
 */
export function parseCommandLine<O extends OptionTable>(
  args: string[],
  options: O,
  positionals: readonly string[],
): ParsedCommandLine<O> {
  const parsed = parseArgs({ args, options, allowPositionals: true, strict: false, tokens: true })
  for (const token of parsed.tokens) if (token.kind === 'option') checkOption(token, options)
  const given = parsed.positionals.length
  if (given < positionals.length)
    throw new UsageError('ERR_MOE_MISSING_ARGUMENT', `Missing argument <${positionals[given]}>`)
  if (given > positionals.length)
    throw new UsageError(
      'ERR_MOE_UNEXPECTED_ARGUMENT',
      `Unexpected argument '${parsed.positionals[positionals.length]}'`,
    )
  const empty = parsed.positionals.indexOf('')
  if (empty >= 0)
    throw new UsageError('ERR_MOE_MISSING_ARGUMENT', `Argument <${positionals[empty]}> is an empty text`)
  return parsed as ParsedCommandLine<O>
}

function checkOption({ name, rawName, value, inlineValue }: OptionToken, options: OptionTable): void {
  const option = Object.hasOwn(options, name) ? options[name] : undefined
  if (!option || rawName !== `--${name}`) {
    const known = [...Object.keys(options), 'help'].map(known => `--${known}`)
    const nextStep = suggestion(rawName, known) ?? `The command knows ${known.join(', ')}.`
    throw new UsageError('ERR_MOE_UNKNOWN_OPTION', `Unknown option '${rawName}'`, nextStep)
  }
  if (option.type === 'boolean') {
    if (value !== undefined)
      throw new UsageError('ERR_MOE_UNEXPECTED_ARGUMENT', `--${name} takes no value, received '${value}'`)
    return
  }
  // What follows is the next option; a value that begins with a dash stands behind '='.
  if (value === undefined || value === '' || (!inlineValue && /^-./.test(value)))
    throw new UsageError(
      'ERR_MOE_MISSING_ARGUMENT',
      `Missing value of --${name}`,
      `Give one: --${name} ${option.value}, or --${name}=${option.value} where it begins with a dash.`,
    )
}

/** ERR_MOE_INVALID_ARG_VALUE: "Expected <what> for --<name>, received '<text>'". */
export function invalidOption(name: string, expected: string, text: string): UsageError {
  return new UsageError(
    'ERR_MOE_INVALID_ARG_VALUE',
    `Expected ${expected} for --${name}, received '${text}'`,
    `Give ${expected}, or leave --${name} out.`,
  )
}

/** An integer option of at least `min` and at most `max`. */
export function integerOption(
  name: string,
  text: string | undefined,
  min: number,
  max = Number.MAX_SAFE_INTEGER,
): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < min || value > max) {
    const range =
      max < Number.MAX_SAFE_INTEGER ? `an integer from ${min} to ${max}` : `an integer of at least ${min}`
    throw invalidOption(name, range, text)
  }
  return value
}

/** A number in (0, 1]. */
export function fractionOption(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (text.trim() === '' || !(value > 0 && value <= 1)) throw invalidOption(name, 'a number in (0, 1]', text)
  return value
}

/** One of a few words. */
export function choiceOption<T extends string>(
  name: string,
  text: string | undefined,
  choices: readonly T[],
): T | undefined {
  if (text === undefined) return undefined
  if (!choices.includes(text as T)) throw invalidOption(name, `one of ${choices.join(', ')}`, text)
  return text as T
}
