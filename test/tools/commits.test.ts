/** Commit subjects are read by people who look for a change: their form is checked, and nothing is claimed of a history that is not there. */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { git } from '../helpers/git.js'

const script = path.join(import.meta.dirname, '../../tools/check/commits.mjs')
const directory = mkdtempSync(path.join(os.tmpdir(), 'commits-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))
function commit(subject: string): void {
  git(directory, 'commit', '--quiet', '--allow-empty', '-m', subject)
}
function commitBase(subject: string): string {
  commit(subject)
  return git(directory, 'rev-parse', 'HEAD')
}
function check(base: string, where = directory) {
  const args = [script, '--directory', where, '--base', base]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  return { status, said: stdout + stderr }
}

beforeAll(() => {
  git(directory, 'init', '--quiet', '--template=')
})

describe('commit subjects', () => {
  it('may be anything before the base, and keep it afterwards', () => {
    const base = commitBase('An older habit')
    commit('fix(cpu): a window of one token')
    commit('feat!: another meaning of an option')
    const longest = `docs: ${'x'.repeat(66)}`
    commit(longest)
    expect(check(base)).toEqual({ status: 0, said: 'commits: 3 subjects keep the convention\n' })
  })

  it.each([
    ['An older habit', /is not "type\(scope\): what"/],
    ['fixes: a type that nobody chose', /is not "type/],
    ['fix:no space', /is not "type/],
    [`docs: ${'x'.repeat(67)}`, /has 73 characters, more than 72/],
  ])('refuse %s', (subject, reason) => {
    const base = commitBase('chore: base')
    commit(subject)
    const { status, said } = check(base)
    expect(said).toMatch(reason)
    expect(status).toBe(1)
  })

  it('are not judged in a shallow clone that does not reach the base, and that is said', () => {
    const base = commitBase('chore: base')
    commit('Not a convention')
    commit('chore: last')
    const clone = path.join(directory, 'clone')
    git(directory, 'clone', '--quiet', '--depth', '1', `file://${directory}`, clone)
    expect(check(base, clone)).toEqual({
      status: 0,
      said: `commits: NOT CHECKED: this shallow clone does not reach back to ${base}, where this check begins\n`,
    })
  })
})
