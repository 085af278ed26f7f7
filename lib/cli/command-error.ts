/** How a command fails: every failure has a code of docs/errors.md, a next step and an exit status, as text or as JSON. */

import { ERROR_CODES, editDistance, MoeError, type MoeErrorCode } from '../block/errors.js'
import type { Paint } from './format.js'
import { REMEDIES } from './remedies.js'

/** What a process ends with; stable, as codes are. A check that fails (`run --check`, `doctor`) is a failure as well. */
export const EXIT_STATUS = {
  failure: 1,
  /** The command line itself is wrong, and nothing has been done. */
  usage: 2,
  /** 128 + SIGINT, as shells report it. */
  interrupted: 130,
} as const

/** The command line was not understood. */
export class UsageError extends MoeError {
  override readonly name = 'UsageError'
  readonly nextStep: string | undefined

  /** @param nextStep instead of the code's general one */
  constructor(code: MoeErrorCode, message: string, nextStep?: string) {
    super(code, message)
    this.nextStep = nextStep
  }
}

/** "did you mean '…'?" with the nearest of `known`; undefined where none is near. */
export function suggestion(word: string, known: readonly string[]): string | undefined {
  const distances = known.map(name => ({ name, distance: editDistance(name, word) }))
  const [nearest] = distances.sort((a, b) => a.distance - b.distance)
  // Of a short word two letters are most of it.
  return nearest && nearest.distance <= Math.min(2, word.length - 2)
    ? `Did you mean '${nearest.name}'?`
    : undefined
}

/** What `--json` prints as `error`. */
export interface CommandFailure {
  code: MoeErrorCode
  message: string
  /** One sentence or two: what to do about it. */
  nextStep: string
  exitStatus: number
}

const isKnown = (code: unknown): code is MoeErrorCode =>
  typeof code === 'string' && Object.hasOwn(ERROR_CODES, code)

/** Of errors that the package did not make: the system's, which name the call that failed, and defects. */
function codeOf(error: unknown): MoeErrorCode {
  const { code, syscall } = (error ?? {}) as { code?: unknown; syscall?: unknown }
  if (isKnown(code)) return code
  return typeof syscall === 'string' ? 'ERR_MOE_IO' : 'ERR_MOE_INTERNAL'
}

/** What is said of anything that a command threw. */
export function describeFailure(error: unknown): CommandFailure {
  const code = codeOf(error)
  const message = (error instanceof Error ? error.message : String(error)).replace(/\s*\n\s*/g, ' ')
  const isUsage = error instanceof UsageError
  return {
    code,
    message,
    nextStep: (isUsage && error.nextStep) || REMEDIES[code],
    exitStatus: isUsage ? EXIT_STATUS.usage : EXIT_STATUS.failure,
  }
}

/** `error [CODE]: message` on one line and the next step on another. */
export function failureLines({ code, message, nextStep }: CommandFailure, paint: Paint): string[] {
  return [`${paint.red('error')} [${code}]: ${message}`, `${paint.yellow('→')} ${nextStep}`]
}

/** The stacks of an error and its causes, for SPARSE_EXPERTS_DEBUG. */
export function stackLines(error: unknown): string[] {
  const lines = [error instanceof Error ? (error.stack ?? '') : '']
  for (let cause = (error as Error)?.cause; cause instanceof Error; cause = cause.cause)
    lines.push(`caused by ${cause.stack}`)
  return lines
}
