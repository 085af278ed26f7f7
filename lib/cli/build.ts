/** `sparse-experts build`: compiles the native addon where no prebuild serves. */

import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { doctor } from '../doctor.js'
import { parseCommandLine } from './arguments.js'
import type { CommandContext } from './context.js'
import { formatDuration, table } from './format.js'
import { packageRoot } from './package.js'

export const BUILD_USAGE = `Usage: sparse-experts build

Compiles the native addon from the sources in the package, for this machine, and tests it. Needs CMake and a C++17 compiler; downloads
nothing.
`

const INSTALL_HINTS: Partial<Record<NodeJS.Platform, string>> = {
  linux:
    "On Debian or Ubuntu: 'apt-get install cmake g++ make'; on Fedora: 'dnf install cmake gcc-c++ make'; on Alpine: 'apk add cmake g++ make'.",
  darwin: "'xcode-select --install' and 'brew install cmake'.",
  win32: 'Visual Studio with "Desktop development with C++", which brings CMake.',
}

function works(command: string): boolean {
  return spawnSync(command, ['--version'], { stdio: 'ignore', windowsHide: true }).status === 0
}

/** Phrases for the tools of the build that are not on this machine. */
export function missingTools(has: (command: string) => boolean = works): string[] {
  const missing: string[] = []
  if (!has('cmake')) missing.push('CMake')
  // Visual Studio and Xcode find their compiler themselves.
  if (process.platform === 'linux') {
    const compilers = process.env.CXX ? [process.env.CXX] : ['c++', 'g++', 'clang++']
    if (!compilers.some(has)) missing.push('a C++17 compiler')
    if (!['ninja', 'make', 'gmake'].some(has)) missing.push('make or ninja')
  }
  return missing
}

/** Runs the command; the exit status. */
export async function buildCommand(args: string[], context: CommandContext): Promise<number> {
  parseCommandLine(args, {}, [])
  const script = path.join(packageRoot, 'scripts/cmake-build.mjs')
  if (!existsSync(script) || !existsSync(path.join(packageRoot, 'CMakeLists.txt'))) {
    throw new Error(`The sources are not in ${packageRoot}; install sparse-experts again`)
  }
  const missing = missingTools()
  if (missing.length > 0) {
    const hint = INSTALL_HINTS[process.platform] ?? 'Install them with the package manager of your system.'
    throw new Error(`This machine lacks ${missing.join(' and ')}, which the build needs. ${hint}`)
  }
  context.note([`Building the native addon in ${packageRoot}`])
  const began = performance.now()
  const status = await runNode([script], context.signal)
  context.signal.throwIfAborted()
  if (status !== 0)
    throw new Error(`The build failed with status ${status}; the compiler's messages are above`)
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
    const child = spawn(process.execPath, args, { cwd: packageRoot, stdio: 'inherit', signal })
    child.on('error', error => (signal.aborted ? resolve(null) : reject(error)))
    child.on('close', resolve)
  })
}
