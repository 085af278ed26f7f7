import { existsSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'
import { ERROR_CODES } from '../../lib/block/errors.js'
import { ARCHITECTURES, modelTypesOf } from '../../lib/checkpoint/gguf/architectures.js'
import { REMEDIES } from '../../lib/cli/remedies.js'
import { ERROR_BOUNDS } from '../../lib/devices/accuracy.js'
import { KNOWN_VARIABLES } from '../../lib/doctor/checks.js'
import { knownModelTypes, PUBLISHERS } from '../../lib/families/index.js'
import * as api from '../../lib/index.js'
import { anchors, documents, filesBelow, links, read, root, tableRows } from './markdown.js'

const CODE_CELL = /^`(ERR_MOE_\w+)`$/

describe('docs/errors.md', () => {
  const rows = tableRows('docs/errors.md').filter(([first]) => CODE_CELL.test(first!))

  it('has a row for every code, and no other', () => {
    expect(rows.map(([code]) => CODE_CELL.exec(code!)![1])).toEqual(Object.keys(ERROR_CODES))
  })

  it('says of each when it is raised, in the words of the table in the code', () => {
    expect(Object.fromEntries(rows.map(([code, , when]) => [CODE_CELL.exec(code!)![1], when]))).toEqual(
      ERROR_CODES,
    )
  })

  it('names a class for each', () => {
    for (const [code, type] of rows) expect(['TypeError', 'RangeError', 'MoeError'], code).toContain(type)
  })

  it('says what to do in the words of the command line', () => {
    const plain = (text: string) => text.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replaceAll('`', '')
    expect(
      Object.fromEntries(rows.map(([code, , , remedy]) => [CODE_CELL.exec(code!)![1], plain(remedy!)])),
    ).toEqual(REMEDIES)
  })

  it('is the only source of codes: no document and no source names another one', () => {
    const files = [
      ...documents(),
      ...filesBelow('lib', /\.ts$/),
      ...filesBelow('examples', /\.(m?[jt]s|md)$/),
    ]
    const unknown = files.flatMap(file =>
      [...read(file).matchAll(/\bERR_MOE_[A-Z_]*[A-Z]\b(?![A-Z_*…])/g)]
        .map(([code]) => code)
        .filter(
          code =>
            !(code in ERROR_CODES) && !Object.keys(ERROR_CODES).some(known => known.startsWith(`${code}_`)),
        )
        .map(code => `${file}: ${code}`),
    )
    expect(unknown).toEqual([])
  })
})

describe('environment variables', () => {
  /** Names that the code reads; in C++ only strings are, since macros have the same prefix. */
  function readNames(): Set<string> {
    const names = new Set<string>()
    const collect = (files: string[], pattern: RegExp) => {
      for (const file of files) for (const [, name] of read(file).matchAll(pattern)) names.add(name!)
    }
    collect(filesBelow('lib', /\.ts$/), /\b(SPARSE_EXPERTS_[A-Z_]+[A-Z])\b/g)
    collect(filesBelow('csrc', /\.(cc|h|cuh?)$/), /"(SPARSE_EXPERTS_[A-Z_]+[A-Z])["=]/g)
    collect(filesBelow('tools', /\.mjs$/), /process\.env\.(SPARSE_EXPERTS_[A-Z_]+[A-Z])\b/g)
    return names
  }

  it('stand in one table in docs/api.md, all of them and no other', () => {
    const documented = tableRows('docs/api.md').flatMap(
      ([first]) => /^`(SPARSE_EXPERTS_\w+)`$/.exec(first!)?.[1] ?? [],
    )
    expect(documented.sort()).toEqual([...readNames()].sort())
    expect([...KNOWN_VARIABLES].sort(), 'what the doctor knows').toEqual(documented)
  })

  it('are not named in a document without being in that table', () => {
    const documented = read('docs/api.md')
    const unknown = documents().flatMap(file =>
      [...read(file).matchAll(/\bSPARSE_EXPERTS_[A-Z_]+[A-Z]\b/g)]
        .map(([name]) => name)
        .filter(name => !documented.includes(`| \`${name}\``))
        .map(name => `${file}: ${name}`),
    )
    expect(unknown).toEqual([])
  })
})

describe('links', () => {
  it.each(documents())('of %s lead somewhere', file => {
    const broken = links(file).filter(link => {
      if (/^https:\/\//.test(link)) return false
      const [target, anchor] = link.split('#') as [string, string?]
      const resolved = target === '' ? file : path.posix.join(path.posix.dirname(file), target)
      if (!existsSync(path.join(root, resolved))) return true
      return anchor !== undefined && !anchors(resolved).has(anchor)
    })
    expect(broken).toEqual([])
  })
})

describe('tables of families', () => {
  it('are those of the rows (npm run build:families)', async () => {
    const script = pathToFileURL(path.join(root, 'tools/build/families.mjs')).href
    const { familyTables } = (await import(script)) as {
      familyTables(
        publishers: typeof PUBLISHERS,
        architectures: Record<string, readonly string[]>,
      ): Record<string, string>
    }
    const architectures = Object.fromEntries(ARCHITECTURES.map(name => [name, modelTypesOf(name)]))
    for (const [file, table] of Object.entries(familyTables(PUBLISHERS, architectures)))
      expect(read(file), file).toContain(`<!-- families:begin -->\n\n${table}\n\n<!-- families:end -->`)
  })

  it('name the publisher in whose file the row is', () => {
    for (const [publisher, rows] of Object.entries(PUBLISHERS)) {
      const source = read(`lib/families/${publisher.toLowerCase()}.ts`)
      for (const type of rows.flatMap(({ modelTypes }) => modelTypes))
        expect(source, publisher).toContain(`'${type}'`)
    }
  })
})

describe('README.md', () => {
  it('counts the model types', () => {
    expect(read('README.md')).toContain(`${knownModelTypes().length} model types`)
  })

  it('states the bounds that the tests assert', () => {
    const { f32, f16, bf16 } = ERROR_BOUNDS
    const text = `at most ${f32.toExponential()} (f32), ${f16.toExponential()} (f16) and ${bf16.toExponential()} (bf16)`
    expect(read('README.md').replace(/\s+/g, ' ')).toContain(text)
    const rows = tableRows('docs/numerics.md')
    for (const [dtype, bound] of Object.entries(ERROR_BOUNDS))
      expect(rows).toContainEqual([`\`${dtype}\``, bound.toExponential()])
  })

  it('names only npm scripts that exist', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
    const unknown = documents().flatMap(file =>
      [...read(file).matchAll(/npm run (?:--silent )?([\w:-]+)/g)]
        .map(([, name]) => name!)
        .filter(name => !(name in scripts))
        .map(name => `${file}: npm run ${name}`),
    )
    expect(unknown).toEqual([])
  })
})

describe('docs/api.md', () => {
  it('mentions every value that the package exports', () => {
    const text = read('docs/api.md')
    const missing = Object.keys(api).filter(name => !text.includes(name))
    expect(missing).toEqual([])
  })
})
