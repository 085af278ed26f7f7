/** What `sparse-experts …` does with its arguments. A command is loaded when it is the one that was asked for. */

import { PACKAGE_VERSION } from '../spec/version.js'
import {
  describeFailure,
  EXIT_STATUS,
  failureLines,
  stackLines,
  suggestion,
  UsageError,
} from './command-error.js'
import type { CommandContext } from './context.js'
import { makePaint } from './format.js'

const USAGE = `Usage: sparse-experts <command> [options]

Sparse mixture-of-experts layers of published checkpoints, on this machine.

Commands:
  run <checkpoint>      load a layer, run it, show timing, expert load and work saved
  inspect <checkpoint>  which layers have experts, how they are stored, and what they would take here
  plan <checkpoint>     whether all layers fit into a memory, and what a cache would cost where they do not
  simulate <trace>      what caches of several sizes would do for a recorded routing
  doctor                what runs here, what does not, and why
  build                 compile the native addon from the package's sources

Options:
  --help                this text, or a command's own
  --version             version of the package

Exit status:
  0  done              2    the command line is wrong
  1  a failure         130  interrupted

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
  inspect: async () => {
    const { INSPECT_USAGE: usage, inspectCommand: run } = await import('./inspect.js')
    return { usage, run }
  },
  plan: async () => {
    const { PLAN_USAGE: usage, planCommand: run } = await import('./plan.js')
    return { usage, run }
  },
  simulate: async () => {
    const { SIMULATE_USAGE: usage, simulateCommand: run } = await import('./simulate.js')
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

const wantsHelp = (args: readonly string[]) => args.includes('--help') || args.includes('-h')

/** Where the command writes, and the environment that decides on colours and stack traces; `process` is one. */
export type Terminal = Pick<NodeJS.Process, 'stdout' | 'stderr' | 'env'>

/**
 * Runs the command that the arguments name. A failure is told on stderr with its code and the next step, and where `--json` asks for it also on
 * stdout as `{ "error": { code, message, nextStep, exitStatus } }`.
 *
 * @param signal Ctrl-C
 * @returns the exit status: that of the command, or one of {@link EXIT_STATUS}
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
  const [name, ...rest] = args
  try {
    if (name === undefined || !Object.hasOwn(COMMANDS, name)) return withoutCommand(args, stdout)
    const command = await COMMANDS[name]!()
    if (wantsHelp(rest)) {
      stdout.write(command.usage)
      return 0
    }
    return await command.run(rest, context)
  } catch (error) {
    if (signal.aborted) {
      context.note(['Interrupted'])
      return EXIT_STATUS.interrupted
    }
    const failure = describeFailure(error)
    if (args.includes('--json')) context.print([JSON.stringify({ error: failure }, null, 2)])
    context.note(failureLines(failure, makePaint(stderr, env)))
    if (env.SPARSE_EXPERTS_DEBUG) context.note(stackLines(error))
    return failure.exitStatus
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
  const commands = Object.keys(COMMANDS)
  const choices = `The commands are ${commands.join(', ')}; npx sparse-experts --help describes them.`
  if (name === undefined || name === '')
    throw new UsageError('ERR_MOE_MISSING_ARGUMENT', 'Missing command', choices)
  if (!name.startsWith('-'))
    throw new UsageError(
      'ERR_MOE_UNKNOWN_COMMAND',
      `Unknown command '${name}'`,
      suggestion(name, commands) ?? choices,
    )
  if (commands.some(command => args.includes(command)))
    throw new UsageError(
      'ERR_MOE_UNKNOWN_OPTION',
      `Option '${name}' stands before the command`,
      'Put it behind the command.',
    )
  throw new UsageError('ERR_MOE_UNKNOWN_OPTION', `Unknown option '${name}'`, choices)
}
