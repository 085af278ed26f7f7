/** Starts the command line, the examples and the fixtures as processes of their own, from compiled code. */

import { type ChildProcess, spawn } from 'node:child_process'
import path from 'node:path'

export const repository = path.resolve(import.meta.dirname, '../..')

/** Where tools/build/programs.mjs has them. */
const programs = path.join(repository, 'build/programs')

export interface ProgramResult {
  status: number | null
  stdout: string
  stderr: string
}

function startNode(args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  const { FORCE_COLOR: _, ...inherited } = process.env
  return spawn(process.execPath, args, {
    cwd: repository,
    env: { ...inherited, NO_COLOR: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

/** A TypeScript program below examples/ or test/devices/fixtures/ (tsconfig.programs.json). */
export function startProgram(
  file: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): ChildProcess {
  return startNode([path.join(programs, file.replace(/ts$/, 'js')), ...args], env)
}

/** `sparse-experts …` as it is published. */
export function startCommand(args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  return startNode([path.join(repository, 'dist/cli/main.js'), ...args], env)
}

/** Plain JavaScript in a Node of its own. */
export const runNode = (...start: Parameters<typeof startNode>): Promise<ProgramResult> =>
  finished(startNode(...start))

/** Collects what a child says until it ends. */
export function finished(child: ChildProcess): Promise<ProgramResult> {
  let stdout = ''
  let stderr = ''
  child.stdout?.setEncoding('utf8').on('data', text => {
    stdout += text
  })
  child.stderr?.setEncoding('utf8').on('data', text => {
    stderr += text
  })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', status => resolve({ status, stdout, stderr }))
  })
}

export const runProgram = (...start: Parameters<typeof startProgram>): Promise<ProgramResult> =>
  finished(startProgram(...start))

export const runCommand = (...start: Parameters<typeof startCommand>): Promise<ProgramResult> =>
  finished(startCommand(...start))
