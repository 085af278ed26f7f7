/** What `sparse-experts …` does with its arguments. A command is loaded when it is the one that was asked for. */

import { PACKAGE_VERSION } from '../spec/version.js'
import { UsageError } from './arguments.js'
import type { CommandContext } from './context.js'
import { makePaint, type Paint } from './format.js'

const USAGE = `Usage: sparse-experts <command> [options]

Sparse mixture-of-experts layers of published checkpoints, on this machine.

Commands:
  run <checkpoint>  load a layer, run it, show timing, expert load and work saved
  doctor            what runs here, what does not, and why
  build             compile the native addon from the package's sources

Options:
  --help            this text, or a command's own
  --version         version of the package

Environment:
  SPARSE_EXPERTS_THREADS   CPU threads (default: the cores available)
  SPARSE_EXPERTS_CPU_ISA   instruction set to use, for tests
  SPARSE_EXPERTS_DEBUG     1: stack traces of errors
`

interface Command {
  usage: string
  run: (args: string[], context: CommandContext) => Promise<number>
}

const COMMANDS: Record<string, () => Promise<Command>> = {
  run: async () => {
    const { RUN_USAGE: usage, runCommand: run } = await import('./run.js')
    return { usage, run }
  },
  doctor: async () => {
    const { DOCTOR_USAGE: usage, doctorCommand: run } = await import('./doctor.js')
    return { usage, run }
  },
  build: async () => {
    const { BUILD_USAGE: usage, buildCommand: run } = await import('./build.js')
    return { usage, run }
  },
}

const EXIT_FAILURE = 1
const EXIT_USAGE = 2
/** 128 + SIGINT, as shells report it. */
const EXIT_INTERRUPTED = 130

const wantsHelp = (args: readonly string[]) => args.includes('--help') || args.includes('-h')

/** Where the command writes, and the environment that decides on colours and stack traces; `process` is one. */
export type Terminal = Pick<NodeJS.Process, 'stdout' | 'stderr' | 'env'>

/**
 * Runs the command that the arguments name.
 *
 * @param signal Ctrl-C
 * @returns the exit status
 */
export async function runCommandLine(
  args: string[],
  { stdout, stderr, env }: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const context: CommandContext = {
    signal,
    paint: makePaint(stdout, env),
    stderr,
    print: lines => stdout.write(`${lines.join('\n')}\n`),
    note: lines => stderr.write(`${lines.join('\n')}\n`),
  }
  const errorPaint = makePaint(stderr, env)
  const [name, ...rest] = args
  let command: Command | undefined
  try {
    if (name !== undefined && Object.hasOwn(COMMANDS, name)) command = await COMMANDS[name]!()
    if (!command) return withoutCommand(args, stdout)
    if (wantsHelp(rest)) {
      stdout.write(command.usage)
      return 0
    }
    return await command.run(rest, context)
  } catch (error) {
    if (signal.aborted) {
      context.note(['Interrupted'])
      return EXIT_INTERRUPTED
    }
    if (error instanceof UsageError) {
      context.note([`${errorPaint.red('error')}: ${error.message}`, '', (command?.usage ?? USAGE).trimEnd()])
      return EXIT_USAGE
    }
    context.note(errorLines(error, errorPaint, Boolean(env.SPARSE_EXPERTS_DEBUG)))
    return EXIT_FAILURE
  }
}

function withoutCommand(args: string[], stdout: NodeJS.WriteStream): number {
  const [name] = args
  if (name === '--version' || name === '-v') {
    stdout.write(`${PACKAGE_VERSION}\n`)
    return 0
  }
  if (wantsHelp(args) || name === 'help') {
    stdout.write(USAGE)
    return 0
  }
  if (name === undefined) throw new UsageError('Missing command')
  throw new UsageError(name.startsWith('-') ? `Unknown option '${name}'` : `Unknown command '${name}'`)
}

/** `error [CODE]: message` on one line; the stacks of it and its causes on request. */
function errorLines(error: unknown, paint: Paint, withStack: boolean): string[] {
  const { code, message, stack } =
    error instanceof Error ? (error as Error & { code?: string }) : { message: String(error) }
  const lines = [`${paint.red('error')}${code ? ` [${code}]` : ''}: ${message.replace(/\s*\n\s*/g, ' ')}`]
  if (!withStack) return lines
  lines.push(stack ?? '')
  for (let cause = (error as Error)?.cause; cause instanceof Error; cause = cause.cause) {
    lines.push(`caused by ${cause.stack}`)
  }
  return lines
}
