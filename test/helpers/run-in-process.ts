/** Runs the command line in the test's own process: what is printed, and the status that it would end with. */

import { runCommandLine, type Terminal } from '../../lib/cli/command-line.js'
import type { ProgramResult } from './run-program.js'

/** `sparse-experts …`, no terminal at either end. Nothing of the test's environment is in its own but what is given. */
export async function runInProcess(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<ProgramResult> {
  const written = { stdout: '', stderr: '' }
  const into = (name: keyof typeof written) => ({
    isTTY: false,
    write(text: string) {
      written[name] += text
      return true
    },
  })
  const terminal = { stdout: into('stdout'), stderr: into('stderr'), env } as unknown as Terminal
  const status = await runCommandLine([...args], terminal, new AbortController().signal)
  return { status, ...written }
}
