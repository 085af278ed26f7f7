/** Remembers which sources clang-tidy found clean, by what it read: the preprocessed source, the rules, its version and its options. */

import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { root } from '../repository.mjs'

const DIRECTORY = path.join(os.homedir(), '.cache/sparse-experts-ci/tidy')

/** Nearest first: all rules that hold for a source. */
function rulesOf(file) {
  const rules = []
  for (let folder = path.dirname(file); folder.startsWith(root); folder = path.dirname(folder)) {
    const candidate = path.join(folder, '.clang-tidy')
    if (existsSync(candidate)) rules.push(readFileSync(candidate, 'utf8'))
  }
  return rules
}

/** A hash of what the compiler sees of a source, comments kept: they silence checks. Undefined where it cannot be preprocessed. */
function hashPreprocessed(compiler, { command, directory }) {
  const flags = command
    .split(' ')
    .slice(1)
    .join(' ')
    .replace(/ -o \S+/, '')
  const line = `exec ${compiler} -w -E -CC ${flags}`
  return new Promise(resolve => {
    const child = spawn('bash', ['-c', line], { cwd: directory, stdio: ['ignore', 'pipe', 'ignore'] })
    const hash = createHash('sha256').update(flags.replaceAll(root, '.'))
    let rest = ''
    child.stdout.setEncoding('utf8').on('data', text => {
      // The checkout's path is in line marks; a piece may end in the middle of one.
      const lines = (rest + text).split('\n')
      rest = lines.pop()
      for (const line of lines) hash.update(`${line.replaceAll(root, '.')}\n`)
    })
    child.on('error', () => resolve(undefined))
    child.on('close', status => resolve(status === 0 ? hash.update(rest).digest('hex') : undefined))
  })
}

/**
 * @param clangTidy the program's name; the compiler of the same version preprocesses, and without it nothing is remembered
 * @param options what it gets besides the source
 */
export function tidyCache(clangTidy, options) {
  const version = spawnSync(clangTidy, ['--version'], { encoding: 'utf8' }).stdout
  const compiler = clangTidy.replace('clang-tidy', 'clang++')
  const works = spawnSync(compiler, ['--version'], { stdio: 'ignore' }).status === 0
  return {
    /** The key of a source with all commands that compile it, or undefined. */
    async keyOf(file, commands) {
      if (!works) return undefined
      const hashes = []
      for (const command of commands) hashes.push(await hashPreprocessed(compiler, command))
      if (hashes.includes(undefined)) return undefined
      const facts = [version, options, rulesOf(file), path.relative(root, file), hashes]
      return createHash('sha256').update(JSON.stringify(facts)).digest('hex')
    },
    isClean: key => key !== undefined && existsSync(path.join(DIRECTORY, key)),
    keepClean(key) {
      if (key === undefined) return
      try {
        mkdirSync(DIRECTORY, { recursive: true })
        writeFileSync(path.join(DIRECTORY, key), '')
      } catch {}
    },
  }
}
