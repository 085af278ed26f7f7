/** The module hooks of programs.mjs: a '.js' that is none finds its '.ts', and '.ts' is loaded as it was compiled. */

import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { root } from '../repository.mjs'

export function resolve(specifier, context, next) {
  if (/^\.\.?\/.*\.js$/.test(specifier) && context.parentURL?.endsWith('.ts')) {
    const source = new URL(specifier.replace(/js$/, 'ts'), context.parentURL)
    if (existsSync(source)) return next(source.href, context)
  }
  return next(specifier, context)
}

export function load(url, context, next) {
  if (!url.startsWith('file:') || !url.endsWith('.ts')) return next(url, context)
  const compiled = path.relative(root, fileURLToPath(url)).replace(/ts$/, 'js')
  const source = readFileSync(path.join(root, 'build/programs', compiled))
  return { format: 'module', source, shortCircuit: true }
}
