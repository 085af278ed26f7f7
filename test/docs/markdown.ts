/** Reads the repository's Markdown: files, links, headings and code blocks. */

import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

export const root = path.resolve(import.meta.dirname, '../..')

/** Files below `directory` (relative to the root) whose name matches, as relative paths with '/'. */
export function filesBelow(directory: string, pattern: RegExp): string[] {
  return readdirSync(path.join(root, directory), { recursive: true, encoding: 'utf8' })
    .filter(name => pattern.test(name) && !/(^|[\\/])node_modules[\\/]/.test(name))
    .map(name => `${directory}/${name.replaceAll('\\', '/')}`)
    .sort()
}

/** Every Markdown file that a reader is meant to find. */
export function documents(): string[] {
  const top = readdirSync(root).filter(name => name.endsWith('.md'))
  return [...top, ...['docs', 'examples', 'test/golden'].flatMap(directory => filesBelow(directory, /\.md$/))]
}

export function read(file: string): string {
  return readFileSync(path.join(root, file), 'utf8')
}

/** A fenced block. */
export interface CodeBlock {
  file: string
  /** Of the fence, from 1. */
  line: number
  language: string
  code: string
}

/** Fenced blocks of a document. */
export function codeBlocks(file: string): CodeBlock[] {
  const blocks: CodeBlock[] = []
  let open: CodeBlock | undefined
  for (const [index, line] of read(file).split('\n').entries()) {
    const fence = /^```(\w*)\s*$/.exec(line)
    if (!open && fence) open = { file, line: index + 1, language: fence[1]!, code: '' }
    else if (open && fence) {
      blocks.push(open)
      open = undefined
    } else if (open) open.code += `${line}\n`
  }
  if (open) throw new Error(`${file}:${open.line}: the code block is not closed`)
  return blocks
}

/** Every TypeScript block of the documents. */
export const typeScriptBlocks = (): CodeBlock[] =>
  documents()
    .flatMap(codeBlocks)
    .filter(block => block.language === 'ts')

/** What a block without imports of its own may use. */
const PREAMBLE = `import { devices, fromFloat32, metrics, type MoeConfig, MoeLayer, MoeModel, plan, toFloat32 } from 'sparse-experts'
declare const layer: MoeLayer
declare const config: MoeConfig
declare const hiddenStates: Float32Array
`

/** The block as a module that compiles by itself. */
export function moduleOf({ code }: CodeBlock): string {
  const isWhole = /^import /m.test(code)
  return `${isWhole ? code : `${PREAMBLE}{\n${code}}\n`}export {}\n`
}

/** The document without its fenced blocks, lines kept. */
function prose(file: string): string {
  let inside = false
  return read(file)
    .split('\n')
    .map(line => {
      if (line.startsWith('```')) {
        inside = !inside
        return ''
      }
      return inside ? '' : line
    })
    .join('\n')
}

/** Targets of inline links. */
export function links(file: string): string[] {
  return [...prose(file).matchAll(/\]\(([^()\s]+)\)/g)].map(match => match[1]!)
}

/** Anchors of the headings, by GitHub's rule. */
export function anchors(file: string): Set<string> {
  const seen = new Map<string, number>()
  const found = new Set<string>()
  for (const [, heading] of prose(file).matchAll(/^#{1,6}\s+(.*)$/gm)) {
    const slug = heading!
      .trim()
      .toLowerCase()
      .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replace(/\s/g, '-')
    const count = seen.get(slug) ?? 0
    seen.set(slug, count + 1)
    found.add(count === 0 ? slug : `${slug}-${count}`)
  }
  return found
}

/** Cells of the table rows of a document, header and rule rows included. */
export function tableRows(file: string): string[][] {
  return prose(file)
    .split('\n')
    .filter(line => line.startsWith('|'))
    .map(line =>
      line
        .replace(/^\||\|\s*$/g, '')
        .split(/(?<!\\)\|/)
        .map(cell => cell.trim()),
    )
}
