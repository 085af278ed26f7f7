/** What a build of the native addon needs on this machine, and what to install. Ships beside native.mjs. */

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..')

/** The first line that a command prints about its version, or undefined where it does not run. */
function versionOf(command) {
  const { status, stdout } = spawnSync(command, ['--version'], { encoding: 'utf8', windowsHide: true })
  return status === 0 ? stdout : undefined
}

/** What is wrong with the CMake of this machine, or undefined. */
function cmakeProblem(version) {
  const sources = readFileSync(path.join(root, 'CMakeLists.txt'), 'utf8')
  const [, wanted] = /cmake_minimum_required\(VERSION (\d+\.\d+)/.exec(sources)
  const found = /(\d+)\.(\d+)\.\d+/.exec(version('cmake') ?? '')
  if (!found) return `CMake ${wanted} or newer`
  const [major, minor] = wanted.split('.').map(Number)
  const isNewEnough = Number(found[1]) > major || (Number(found[1]) === major && Number(found[2]) >= minor)
  return isNewEnough ? undefined : `CMake ${wanted} or newer (it has ${found[0]})`
}

/** Phrases for the tools that are not here; empty when all are. */
export function missingTools(version = versionOf) {
  const missing = []
  const cmake = cmakeProblem(version)
  if (cmake) missing.push(cmake)
  // Visual Studio and Xcode find their compiler themselves.
  if (process.platform === 'linux') {
    const compilers = process.env.CXX ? [process.env.CXX] : ['c++', 'g++', 'clang++']
    if (!compilers.some(version)) missing.push('a C++17 compiler')
    if (!['ninja', 'make', 'gmake'].some(version)) missing.push('make or ninja')
  }
  return missing
}

const INSTALL_HINTS = {
  linux:
    "On Debian or Ubuntu: 'apt-get install cmake g++ make'; on Fedora: 'dnf install cmake gcc-c++ make'; on Alpine: 'apk add cmake g++ make'.",
  darwin: "On macOS: 'xcode-select --install' and 'brew install cmake'.",
  win32: 'Visual Studio with "Desktop development with C++" brings them.',
}

/** "this machine lacks …" and how to get it, in one sentence each. */
export function describeMissing(missing) {
  const list = new Intl.ListFormat('en').format(missing)
  return `this machine lacks ${list}. ${INSTALL_HINTS[process.platform] ?? 'Install them with your package manager.'}`
}
