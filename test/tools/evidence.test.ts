/** A step is spared only when a green run of the same inputs, tools and row is known; whatever cannot be decided runs. */

import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { git as gitIn } from '../helpers/git.js'

interface Row {
  name: string
  command: string[]
  report: 'vitest' | 'log' | 'none'
  inputs?: string[]
  tree?: string
  targets?: string[]
  shards?: number
  part?: string
}
interface Decision {
  run: boolean
  why?: string
  shard?: number
  digests?: string[]
  green?: { revision: string }
}
type Group = [name: string, parts: string[]]
interface Options {
  root: string
  machine: string
  full?: boolean
  directory: string
}

const repository = path.join(import.meta.dirname, '../..')
const load = (file: string) => import(pathToFileURL(path.join(repository, 'tools/ci', file)).href)
const evidence = (await load('evidence.mjs')) as {
  decide(row: Row, options: Options): Decision
  describeMachine(): string
  keepGreen(digest: string, facts: object, directory: string): void
  forgetGreen(digest: string, directory: string): void
  uncoveredSources(row: Row, root: string): string[]
  keepShard(row: Row, shard: number, directory: string): void
  partToRun(group: Group, rows: Row[], options: Options): string | undefined
  keepPart(group: Group, part: string, directory: string): void
}
const { STEPS, TURNS } = (await load('steps.mjs')) as { STEPS: Row[]; TURNS: Record<string, string[]> }

const temporary = mkdtempSync(path.join(os.tmpdir(), 'evidence-'))
afterAll(() => rmSync(temporary, { recursive: true, force: true }))

let root: string
let options: Options
const row: Row = {
  name: 'step',
  command: ['true'],
  report: 'none',
  inputs: ['csrc', '!csrc/cuda', 'package.json'],
}

const git = (...args: string[]) => gitIn(root, ...args)
function write(file: string, text: string): void {
  mkdirSync(path.dirname(path.join(root, file)), { recursive: true })
  writeFileSync(path.join(root, file), text)
}
function commit(): void {
  git('add', '--all')
  git('commit', '--quiet', '--message', 'change')
}
/** Decides, and behaves as the runner does after a success. */
function succeed(of: Row = row, with_: Options = options): Decision {
  const decision = evidence.decide(of, with_)
  for (const digest of decision.digests ?? []) {
    evidence.keepGreen(digest, { revision: 'abc' }, options.directory)
  }
  if (decision.shard) evidence.keepShard(of, decision.shard, options.directory)
  return decision
}

const pattern = path.join(temporary, 'pattern')
beforeAll(() => {
  root = pattern
  mkdirSync(root)
  git('init', '--quiet', '--template=')
  write('csrc/a.cc', 'a')
  write('csrc/cuda/b.cu', 'b')
  write('package.json', '{}')
  write('docs/a.md', 'words')
  commit()
})

beforeEach(() => {
  root = mkdtempSync(path.join(temporary, 'repository-'))
  cpSync(pattern, root, { recursive: true })
  options = { root, machine: 'gcc 12', directory: path.join(temporary, `kept-${path.basename(root)}`) }
})

describe('a step', () => {
  it('is green after a green run of the same inputs, whatever else changes', () => {
    expect(succeed()).toMatchObject({ run: true, why: 'changed' })
    expect(evidence.decide(row, options)).toMatchObject({ run: false, green: { revision: 'abc' } })
    write('docs/a.md', 'other words')
    write('csrc/cuda/b.cu', 'taken out of the inputs')
    write('csrc/cuda/new.cu', 'uncommitted')
    expect(evidence.decide(row, options).run).toBe(false)
    commit()
    expect(evidence.decide(row, options).run).toBe(false)
  })

  it.each([
    ['a changed input', () => write('csrc/a.cc', 'b')],
    ['a new input', () => write('csrc/b.cc', 'b')],
    ['a deleted input', () => rmSync(path.join(root, 'csrc/a.cc'))],
    ['a renamed input', () => git('mv', 'csrc/a.cc', 'csrc/c.cc')],
  ])('runs after %s: uncommitted, and committed', (_, change) => {
    write('csrc/kept.cc', 'k')
    commit()
    succeed()
    change()
    const dirty = evidence.decide(row, options)
    expect(dirty).toMatchObject({ run: true, digests: [] })
    expect(dirty.why).toMatch(/^uncommitted: /)
    commit()
    expect(evidence.decide(row, options)).toMatchObject({ run: true, why: 'changed' })
  })

  it('is green again after a change that was taken back', () => {
    succeed()
    write('csrc/a.cc', 'b')
    commit()
    write('csrc/a.cc', 'a')
    commit()
    expect(evidence.decide(row, options).run).toBe(false)
  })

  it.each([
    ['another toolchain', row, { machine: 'gcc 13' }],
    ['another command', { ...row, command: ['false'] }, {}],
    ['other inputs', { ...row, inputs: ['csrc', 'package.json'] }, {}],
    ['the full check', row, { full: true }],
  ])('runs for %s', (_, other, overrides) => {
    succeed()
    expect(evidence.decide(other, { ...options, ...overrides }).run).toBe(true)
  })

  it('always runs without inputs, and leaves nothing', () => {
    const always: Row = { name: 'test', command: ['true'], report: 'none' }
    expect(succeed(always)).toMatchObject({ run: true, why: 'always', digests: [] })
    expect(evidence.decide(always, options).run).toBe(true)
  })

  it.each([
    ['an input that is not there', { ...row, inputs: [...row.inputs!, 'lib'] }],
    ['an exception that is not there', { ...row, inputs: ['csrc', '!csrc/gone'] }],
  ])('runs for %s', (_, other) => {
    expect(succeed(other)).toMatchObject({ run: true, why: expect.stringMatching(/^no input is named/) })
    expect(evidence.decide(other, options).run).toBe(true)
  })

  it('runs where git is not there', () => {
    succeed()
    rmSync(path.join(root, '.git'), { recursive: true })
    expect(evidence.decide(row, options)).toMatchObject({ run: true, digests: [] })
  })

  it('runs again after a failure, which leaves nothing and takes back what there was', () => {
    expect(evidence.decide(row, options).run).toBe(true)
    expect(evidence.decide(row, options).run).toBe(true)
    succeed()
    for (const digest of evidence.decide(row, { ...options, full: true }).digests!) {
      evidence.forgetGreen(digest, options.directory)
    }
    expect(evidence.decide(row, options).run).toBe(true)
  })
})

describe('a step in shards', () => {
  const sharded: Row = { ...row, shards: 3 }

  it('takes another part each time, all of them in so many landings', () => {
    const parts: (number | undefined)[] = []
    for (let landing = 0; landing < 3; landing++) {
      write('csrc/a.cc', String(landing))
      commit()
      parts.push(succeed(sharded).shard)
    }
    expect(parts.toSorted()).toEqual([1, 2, 3])
  })

  it('takes the same part again after a failure', () => {
    const first = evidence.decide(sharded, options).shard
    write('csrc/a.cc', 'mended')
    commit()
    succeed(sharded)
    expect(evidence.decide(sharded, options).shard).not.toBe(first)
    rmSync(options.directory, { recursive: true })
    const again = evidence.decide(sharded, options).shard
    expect(evidence.decide(sharded, options).shard).toBe(again)
  })

  it('is green when each part is', () => {
    const parts = [succeed(sharded).shard, succeed(sharded).shard, succeed(sharded).shard]
    expect(parts.toSorted()).toEqual([1, 2, 3])
    expect(evidence.decide(sharded, options).run).toBe(false)
  })

  it('is whole in the full check, which speaks for every part', () => {
    const full = succeed(sharded, { ...options, full: true })
    expect(full.shard).toBeUndefined()
    expect(full.digests).toHaveLength(3)
    expect(evidence.decide(sharded, options).run).toBe(false)
  })
})

describe('steps that take turns', () => {
  const group: Group = ['detectors', ['one', 'two']]
  const rows = ['one', 'two'].flatMap(part => [
    { ...row, name: `${part} a`, part },
    { ...row, name: `${part} b`, part, inputs: ['package.json'] },
  ])
  const land = () => {
    const part = evidence.partToRun(group, rows, options)
    for (const of of rows) if (of.part === part) succeed(of)
    if (part !== undefined) evidence.keepPart(group, part, options.directory)
    return part
  }

  it('run one part each time, all of them in so many landings', () => {
    const parts: (string | undefined)[] = []
    for (let landing = 0; landing < 4; landing++) {
      write('csrc/a.cc', `landing ${landing}`)
      commit()
      parts.push(land())
    }
    expect(parts.slice(0, 2).toSorted()).toEqual(['one', 'two'])
    expect(parts.slice(2)).toEqual(parts.slice(0, 2))
  })

  it('run the part that something is to be run of, and none where all is green', () => {
    expect([land(), land()].toSorted()).toEqual(['one', 'two'])
    expect(land()).toBeUndefined()
    // The part whose turn it was is green, the other one has changed.
    const next = evidence.partToRun(group, [{ ...rows[0]!, command: ['false'] }, ...rows.slice(1)], options)
    expect(next).toBe('one')
  })

  it('are known to the runner: each part has steps, and each step a group', () => {
    const parts = Object.values(TURNS).flat()
    expect(new Set(STEPS.flatMap(step => step.part ?? []))).toEqual(new Set(parts))
  })
})

describe.skipIf(spawnSync('ninja', ['--version']).status !== 0)('what a target is built from', () => {
  it('must be among the inputs, headers included', () => {
    write(
      'build/tree/build.ninja',
      `rule compile
  command = printf 'a.o: ../../csrc/a.cc ../../csrc/cuda/b.cu\\n' > a.d && touch $out
  depfile = a.d
  deps = gcc
rule link
  command = touch $out
build a.o: compile ../../csrc/a.cc
build program: link a.o
build target: phony program
`,
    )
    const built = spawnSync('ninja', ['target'], { cwd: path.join(root, 'build/tree'), encoding: 'utf8' })
    expect(built.status, built.stdout).toBe(0)
    const linked: Row = { ...row, tree: 'tree', targets: ['target'] }
    expect(evidence.uncoveredSources(linked, root)).toEqual(['csrc/cuda/b.cu'])
    expect(evidence.uncoveredSources({ ...linked, inputs: ['csrc'] }, root)).toEqual([])
  })
})

describe('the rows', () => {
  it('have names of their own, and inputs that are there', () => {
    expect(new Set(STEPS.map(({ name }) => name)).size).toBe(STEPS.length)
    const listed = spawnSync('git', ['ls-files'], { cwd: repository, encoding: 'utf8' })
    if (listed.status !== 0) return // not a checkout
    const files = listed.stdout.split('\n')
    for (const { name, inputs = [] } of STEPS) {
      for (const input of inputs.map(text => text.replace(/^!/, ''))) {
        const isThere = input === '.' || files.some(file => file === input || file.startsWith(`${input}/`))
        expect(isThere, `${name}: ${input}`).toBe(true)
      }
    }
  })

  it('name the machine by its tools', () => {
    expect(evidence.describeMachine()).toContain(process.version)
  })

  it('never spare the tests that look at the machine', () => {
    expect(STEPS.find(({ name }) => name === 'test')).not.toHaveProperty('inputs')
  })
})
