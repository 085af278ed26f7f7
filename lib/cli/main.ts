#!/usr/bin/env node

/** The `sparse-experts` command. */

import { UsageError } from './arguments.js'
import { BUILD_USAGE, buildCommand } from './build.js'
import type { CommandContext } from './context.js'
import { DOCTOR_USAGE, doctorCommand } from './doctor.js'
import { makePaint } from './format.js'
import { packageVersion } from './package.js'
import { RUN_USAGE, runCommand } from './run.js'

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

const COMMANDS: Record<
  string,
  { usage: string; run: (args: string[], context: CommandContext) => Promise<number> }
> = {
  run: { usage: RUN_USAGE, run: runCommand },
  doctor: { usage: DOCTOR_USAGE, run: doctorCommand },
  build: { usage: BUILD_USAGE, run: buildCommand },
}

const EXIT_FAILURE = 1
const EXIT_USAGE = 2
/** 128 + SIGINT, as shells report it. */
const EXIT_INTERRUPTED = 130

const wantsHelp = (args: readonly string[]) => args.includes('--help') || args.includes('-h')

async function main(args: string[]): Promise<number> {
  const abort = new AbortController()
  // The second Ctrl-C kills at once, should the first one not get through.
  process.once('SIGINT', () => abort.abort(new Error('Interrupted')))
  const context: CommandContext = {
    signal: abort.signal,
    paint: makePaint(process.stdout),
    print: lines => process.stdout.write(`${lines.join('\n')}\n`),
    note: lines => process.stderr.write(`${lines.join('\n')}\n`),
  }
  const [name, ...rest] = args
  const command = name === undefined || name.startsWith('-') ? undefined : COMMANDS[name]
  try {
    if (!command) return withoutCommand(args, context)
    if (wantsHelp(rest)) {
      process.stdout.write(command.usage)
      return 0
    }
    return await command.run(rest, context)
  } catch (error) {
    if (abort.signal.aborted) {
      context.note(['Interrupted'])
      return EXIT_INTERRUPTED
    }
    if (error instanceof UsageError) {
      context.note([
        `${makePaint(process.stderr).red('error')}: ${error.message}`,
        '',
        (command?.usage ?? USAGE).trimEnd(),
      ])
      return EXIT_USAGE
    }
    reportError(error, context)
    return EXIT_FAILURE
  }
}

function withoutCommand(args: string[], context: CommandContext): number {
  const [name] = args
  if (name === '--version' || name === '-v') {
    context.print([packageVersion()])
    return 0
  }
  if (wantsHelp(args) || name === 'help') {
    process.stdout.write(USAGE)
    return 0
  }
  if (name === undefined) throw new UsageError('Missing command')
  throw new UsageError(name.startsWith('-') ? `Unknown option '${name}'` : `Unknown command '${name}'`)
}

/** `error [CODE]: message` on one line; the stack only with SPARSE_EXPERTS_DEBUG. */
function reportError(error: unknown, context: CommandContext): void {
  const { code, message, stack } =
    error instanceof Error ? (error as Error & { code?: string }) : { message: String(error) }
  const label = makePaint(process.stderr).red('error')
  context.note([`${label}${code ? ` [${code}]` : ''}: ${message.replace(/\s*\n\s*/g, ' ')}`])
  if (process.env.SPARSE_EXPERTS_DEBUG) {
    context.note([stack ?? ''])
    for (let cause = (error as Error)?.cause; cause instanceof Error; cause = cause.cause) {
      context.note([`caused by ${cause.stack}`])
    }
  }
}

// A reader that has seen enough (`| head`) closes the pipe.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})

process.exitCode = await main(process.argv.slice(2))
