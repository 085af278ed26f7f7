/** Where the package's few messages go. */

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

/** A function, or an object with methods named like the levels (`console`, pino …). */
export type Logger =
  | ((level: LogLevel, message: string) => void)
  | Partial<Record<LogLevel, (message: string) => void>>

const toConsole: Logger = (level, message) => {
  if (level === 'warn' || level === 'error') console.warn(`sparse-experts: ${message}`)
}

let logger: Logger | null = toConsole

/**
 * Sets where messages go: a function, an object with level methods, or `null` for silence.
 *
 * @defaultValue warnings and errors to stderr
 * @example
 * setLogger((level, message) => log[level]({ module: 'sparse-experts' }, message))
 */
export function setLogger(next: Logger | null): void {
  logger = next
}

/** @internal A logger that throws must not break a forward. */
export function log(level: LogLevel, message: string): void {
  try {
    if (typeof logger === 'function') logger(level, message)
    else logger?.[level]?.(message)
  } catch {}
}
