/**
 * `npm run build:families`: writes the tables of families in docs/families.md and docs/checkpoints.md from the rows of lib/families and the
 * architectures of GGUF files, so that none can lag. The suite of docs compares them.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { root } from '../repository.mjs'

const code = names => names.map(name => `\`${name}\``).join(', ')
const table = (head, rows) =>
  [head, head.map(() => '---'), ...rows].map(cells => `| ${cells.join(' | ')} |`).join('\n')

/** How the experts of a family are published; every family is read one by one and in one tensor besides. */
function storedForms(row) {
  const [layout] = row.stacks[0].naming[0].experts
  if (layout.kind === 'perExpert') return 'all, one by one'
  if (layout.kind === 'stackedRows') return 'F32, F16, BF16 in one tensor; all, one by one'
  return `all, in one tensor${layout.major === 'input' ? ', input-major' : ''}`
}

/**
 * The table of each file, by its path from the repository's root.
 *
 * @param architectures of GGUF files: name → the model types that its files can be
 */
export function familyTables(publishers, architectures) {
  const rows = Object.entries(publishers).flatMap(([publisher, list]) =>
    list.map(row => ({ publisher, row })),
  )
  const types = row =>
    code(row.modelTypes) + (row.alsoAs ?? []).map(also => ` (also ${code([also.modelType])})`).join('')
  return {
    'docs/checkpoints.md': table(
      ['`general.architecture`', 'Models'],
      rows.flatMap(({ row }) => {
        const names = Object.keys(architectures).filter(name =>
          architectures[name].some(type => row.modelTypes.includes(type)),
        )
        return names.length === 0 ? [] : [[code(names), row.models]]
      }),
    ),
    'docs/families.md': table(
      ['Publisher', 'Models', '`model_type`', 'Routing', 'Stored formats'],
      rows.map(({ publisher, row }) => [publisher, row.models, types(row), row.routed, storedForms(row)]),
    ),
  }
}

export const BEGIN = '<!-- families:begin -->'
export const END = '<!-- families:end -->'

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { PUBLISHERS } = await import(pathToFileURL(path.join(root, 'dist/families/index.js')).href)
  const { ARCHITECTURES, modelTypesOf } = await import(
    pathToFileURL(path.join(root, 'dist/checkpoint/gguf/architectures.js')).href
  )
  const architectures = Object.fromEntries(ARCHITECTURES.map(name => [name, modelTypesOf(name)]))
  for (const [name, text] of Object.entries(familyTables(PUBLISHERS, architectures))) {
    const file = path.join(root, name)
    const old = readFileSync(file, 'utf8')
    const [begin, end] = [old.indexOf(BEGIN), old.indexOf(END)]
    if (begin < 0 || end < begin) throw new Error(`${name} has no ${BEGIN} … ${END}`)
    writeFileSync(file, `${old.slice(0, begin + BEGIN.length)}\n\n${text}\n\n${old.slice(end)}`)
  }
}
