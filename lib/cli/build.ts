/** `sparse-experts build`: compiles the native addon where no prebuild serves. */

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { MoeError } from '../block/errors.js'
import { location } from '../devices/native/location.js'
import { doctor } from '../doctor/doctor.js'
import { parseCommandLine } from './arguments.js'
import type { CommandContext } from './context.js'
import { formatDuration, table } from './format.js'

export const BUILD_USAGE = `Usage: sparse-experts build

Compiles the native addon from the sources in the package, for this machine, and tests it. Needs CMake and a C++17 compiler; downloads
nothing.
`

/** What tools/build/native.mjs ends with when CMake, a compiler or make is missing. */
const MISSING_TOOLS_STATUS = 3

/** Runs the command; the exit status. */
export async function buildCommand(args: string[], context: CommandContext): Promise<number> {
  parseCommandLine(args, {}, [])
  const { root } = location()
  const script = path.join(root, 'tools/build/native.mjs')
  if (!existsSync(script) || !existsSync(path.join(root, 'CMakeLists.txt'))) {
    throw new MoeError('ERR_MOE_BUILD_FAILED', `The sources are not in ${root}; install sparse-experts again`)
  }
  context.note([`Building the native addon in ${root}`])
  const began = performance.now()
  const status = await runNode([script], context.signal)
  context.signal.throwIfAborted()
  if (status === MISSING_TOOLS_STATUS)
    throw new MoeError(
      'ERR_MOE_BUILD_FAILED',
      'The build needs tools that are not here; the line above names them',
    )
  if (status !== 0)
    throw new MoeError(
      'ERR_MOE_BUILD_FAILED',
      `The build failed with status ${status}; the compiler's messages are above`,
    )
  const { checks } = doctor()
  const relevant = checks.filter(check => check.name === 'native addon' || check.name.startsWith('self-test'))
  context.print([
    `Built in ${formatDuration(performance.now() - began)}`,
    ...table(
      relevant.map(check => [
        check.ok ? context.paint.green('✓') : context.paint.red('✗'),
        check.name,
        check.detail,
      ]),
    ),
  ])
  return relevant.every(check => check.ok) ? 0 : 1
}

function runNode(args: string[], signal: AbortSignal): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: location().root, stdio: 'inherit', signal })
    child.on('error', error => (signal.aborted ? resolve(null) : reject(error)))
    child.on('close', resolve)
  })
}
