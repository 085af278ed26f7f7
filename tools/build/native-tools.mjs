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
  // Xcode finds its compiler itself.
  if (process.platform !== 'darwin') {
    const compilers = process.env.CXX ? [process.env.CXX] : ['c++', 'g++', 'clang++']
    if (!compilers.some(version)) missing.push('a C++17 compiler')
    if (process.platform === 'win32' ? !version('ninja') : !['ninja', 'make', 'gmake'].some(version))
      missing.push('make or ninja')
  }
  return missing
}

/** The command that installs the tools on a distribution of Linux, by ID and ID_LIKE of its /etc/os-release. */
const INSTALL_COMMANDS = [
  [/\b(debian|ubuntu)\b/, 'apt-get install cmake g++ make'],
  [/\b(fedora|rhel|centos|amzn)\b/, 'dnf install cmake gcc-c++ make'],
  [/\balpine\b/, 'apk add cmake g++ make'],
  [/\barch\b/, 'pacman -S cmake gcc make'],
  [/\bsuse\b/, 'zypper install cmake gcc-c++ make'],
]

function osRelease() {
  try {
    return readFileSync('/etc/os-release', 'utf8')
  } catch {
    return ''
  }
}

/** How to get the tools on this system. */
function howToInstall(platform, release) {
  if (platform === 'darwin') return "'xcode-select --install' and 'brew install cmake' bring them."
  if (platform === 'win32')
    return "MSYS2 (https://www.msys2.org) brings them: 'pacman -S mingw-w64-ucrt-x86_64-gcc mingw-w64-ucrt-x86_64-cmake mingw-w64-ucrt-x86_64-ninja'."
  const names = [...release.matchAll(/^ID(?:_LIKE)?="?([^"\n]*)"?$/gm)].map(([, name]) => name).join(' ')
  const [, command] = INSTALL_COMMANDS.find(([pattern]) => pattern.test(names)) ?? []
  return command ? `'${command}' installs them.` : "Install them with the system's package manager."
}

/** "this machine lacks …" and how to get it, in one sentence each. */
export function describeMissing(missing, { platform = process.platform, release = osRelease() } = {}) {
  const list = new Intl.ListFormat('en').format(missing)
  // Ubuntu 22.04 and Debian 11 have CMake 3.22 and 3.18: no package of theirs helps.
  const isOld = missing.some(phrase => phrase.includes('(it has'))
  const newer =
    "CMake's own package is newer than most systems': 'pip install cmake', or https://cmake.org/download."
  const others = missing.length > 1 || !isOld
  return [
    `this machine lacks ${list}.`,
    ...(others ? [howToInstall(platform, release)] : []),
    ...(missing.some(phrase => phrase.startsWith('CMake')) ? [newer] : []),
  ].join(' ')
}
