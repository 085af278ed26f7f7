/** Examples that are there to be copied: they import packages by name, modules of Node, and files of their own folder. */

import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'
import { repository } from '../helpers/run-program.js'

const { name, devDependencies } = JSON.parse(readFileSync(path.join(repository, 'package.json'), 'utf8'))
const PACKAGES = [name, ...Object.keys(devDependencies)]
const SPECIFIER = /\bfrom '([^'\n]+)'$|^import '([^'\n]+)'$|\bimport\('([^'\n]+)'\)/gm

/** What a file imports from outside of `folder`, with what the files of the folder import that it imports. */
function importsFromOutside(file: string, folder: string, seen: Set<string>): string[] {
  if (seen.has(file)) return []
  seen.add(file)
  const source = readFileSync(file, 'utf8')
  return [...source.matchAll(SPECIFIER)].flatMap(([, ...groups]) => {
    const specifier = groups.find(group => group !== undefined)!
    if (!specifier.startsWith('.'))
      return specifier.startsWith('node:') || PACKAGES.includes(specifier)
        ? []
        : [`${file}: '${specifier}' is no package of this repository`]
    const imported = path.resolve(path.dirname(file), specifier)
    if (!imported.startsWith(folder + path.sep)) return [`${file}: '${specifier}' is not of its folder`]
    return importsFromOutside(imported.replace(/\.js$/, '.ts'), folder, seen)
  })
}

it.each([
  ['http-server', ''],
  ['worker-pool', ''],
  ['tiny-deepseek', 'decoder'],
  ['tiny-deepseek', 'server'],
])('examples/%s/%s imports nothing of this repository but the package, by its name', (example, part) => {
  const folder = path.join(repository, 'examples', example)
  const seen = new Set<string>()
  const files = readdirSync(path.join(folder, part), { recursive: true, encoding: 'utf8' })
    .filter(file => /\.(ts|mjs)$/.test(file))
    .map(file => path.join(folder, part, file))
  expect(files.length).toBeGreaterThan(2)
  expect(files.flatMap(file => importsFromOutside(file, folder, seen))).toEqual([])
  const sources = [...seen].map(file => readFileSync(file, 'utf8'))
  expect(sources.some(source => source.includes(`from '${name}'`))).toBe(true)
})
