/** The TypeScript blocks of the documents compile, and the README's example runs. */

import { spawnSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { type CodeBlock, codeBlocks, moduleOf, read, root, typeScriptBlocks } from './markdown.js'

const directory = path.join(root, 'build/docs-examples')

const blocks = typeScriptBlocks()
const fileOf = (block: CodeBlock) => `${block.file.replaceAll(/[^\w]/g, '_')}_${block.line}.ts`

function run(args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' })
  return { status, stdout, stderr }
}

beforeAll(() => {
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  for (const block of blocks) writeFileSync(path.join(directory, fileOf(block)), moduleOf(block))
  const tsconfig = {
    extends: '../../tsconfig.json',
    compilerOptions: { paths: { 'sparse-experts': ['../../lib/index.ts'] } },
    include: ['*.ts'],
  }
  writeFileSync(path.join(directory, 'tsconfig.json'), JSON.stringify(tsconfig))
})

describe('TypeScript blocks of the documents', () => {
  it('are there', () => {
    expect(new Set(blocks.map(block => block.file))).toEqual(
      new Set([
        'README.md',
        'docs/api.md',
        'docs/errors.md',
        'docs/guide/servers.md',
        'docs/guide/traces.md',
      ]),
    )
  })

  it('compile against the library', () => {
    const { stdout, stderr } = run(['node_modules/typescript/bin/tsc', '--pretty', 'false', '-p', directory])
    expect(stderr).toBe('')
    // Errors of the library itself are another check's; indented lines continue the one above.
    expect(stdout.split('\n').filter(line => /^\S/.test(line) && !line.startsWith('lib/'))).toEqual([])
  })
})

describe("the README's example", () => {
  it('is examples/first.mjs and runs as it is written, on the model that ships', () => {
    const [example] = codeBlocks('README.md').filter(block => block.language === 'js')
    expect(read('examples/first.mjs').replace(/^\/\/.*\n/, '')).toBe(example!.code)
    const { status, stdout, stderr } = run(['examples/first.mjs'])
    expect(stderr).toBe('')
    expect(status).toBe(0)
    const config = JSON.parse(read('examples/tiny-deepseek/model/config.json')) as {
      hidden_size: number
      n_routed_experts: number
    }
    expect(stdout).toContain(`${4 * config.hidden_size} numbers`)
    expect(stdout).toContain(`of ${config.n_routed_experts}\n`)
    const [, read_, dense] = /(\d+) of (\d+) weight bytes/.exec(stdout)!
    expect(Number(read_)).toBeGreaterThan(0)
    expect(Number(read_)).toBeLessThanOrEqual(Number(dense))
  })
})
