/**
 * The programs that tests start, compiled into build/programs so that Node.js runs them as they are: hooks that loaded them otherwise would
 * cost each start, and each of its threads, more than most programs do.
 */

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { root } from '../repository.mjs'

export const PROGRAMS = path.join(root, 'build/programs')
const FOLDERS = ['examples', 'test', 'bench']

const slashes = file => file.replaceAll(path.sep, '/')

/**
 * Modules of lib/ are those of dist/, what is not compiled is that beside the source, and `import.meta` says where the source is, so that
 * files beside it are found. Twice does nothing more than once: tsc writes again only what has changed.
 */
function connect(file) {
  const from = path.dirname(file)
  const stem = path.relative(PROGRAMS, file).replace(/\.js$/, '')
  const source = path.join(root, `${stem}.ts`)
  const to = target => slashes(path.relative(from, target)).replace(/^(?!\.)/, './')
  const text = readFileSync(file, 'utf8')
  const connected = text
    .replace(/\b(from |import\(|import )(['"])(\.\.?\/[^'"]+)\2/g, (whole, keyword, quote, specifier) => {
      const compiled = path.join(from, specifier)
      const wanted = path.join(root, path.relative(PROGRAMS, compiled))
      const inLibrary = path.relative(path.join(root, 'lib'), wanted)
      let target
      if (path.relative(PROGRAMS, compiled).startsWith('..')) return whole
      if (!inLibrary.startsWith('..')) target = path.join(root, 'dist', inLibrary)
      else if (existsSync(wanted)) target = wanted
      else return whole
      return `${keyword}${quote}${to(target)}${quote}`
    })
    .replaceAll(
      /import\.meta\.url(?! \/\* compiled)/g,
      `new URL('${to(source)}', import.meta.url /* compiled */).href`,
    )
    .replaceAll(/import\.meta\.dirname(?! \+ )/g, `(import.meta.dirname + '/${to(path.dirname(source))}')`)
  if (connected !== text) writeFileSync(file, connected)
}

export function connectPrograms() {
  for (const folder of FOLDERS.map(name => path.join(PROGRAMS, name)).filter(existsSync)) {
    for (const entry of readdirSync(folder, { recursive: true })) {
      if (entry.endsWith('.js')) connect(path.join(folder, entry))
    }
  }
}
