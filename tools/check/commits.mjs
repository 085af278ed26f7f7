/**
 * Part of `npm run lint`: the subjects of all commits since this check began are conventional commits of at most 72 characters, like
 * "fix(cpu): a window of one token reads no row before the first". Merges are passed over.
 */

import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { root } from '../repository.mjs'

const TYPES = 'feat fix perf refactor style test docs build ci bench chore revert'.split(' ')
const LONGEST = 72
/** The last commit before this check. */
const BASE = '313c161'

const { values } = parseArgs({
  options: { base: { type: 'string', default: BASE }, directory: { type: 'string', default: root } },
})
const { base, directory } = values
const git = (...args) => spawnSync('git', args, { cwd: directory, encoding: 'utf8', maxBuffer: 1 << 26 })

/** What is wrong with a subject, or undefined. */
function problemOf(subject) {
  const form = new RegExp(`^(${TYPES.join('|')})(\\([\\w./, -]+\\))?!?: \\S`)
  if (!form.test(subject)) return `is not "type(scope): what" with a type of ${TYPES.join(', ')}`
  if (subject.length > LONGEST) return `has ${subject.length} characters, more than ${LONGEST}`
  return undefined
}

if (git('merge-base', '--is-ancestor', base, 'HEAD').status !== 0) {
  const isShallow = git('rev-parse', '--is-shallow-repository').stdout?.trim() === 'true'
  console.log(
    `commits: NOT CHECKED: ${isShallow ? 'this shallow clone' : 'this history'} does not reach back to ${base}, where this check begins`,
  )
  process.exit(0)
}
const log = git('log', '--no-merges', '--format=%h %s', `${base}..HEAD`)
if (log.status !== 0) {
  console.error(log.stderr)
  process.exit(1)
}
const commits = log.stdout.split('\n').filter(Boolean)
let failures = 0
for (const line of commits) {
  const [, revision, subject] = /^(\w+) (.*)$/.exec(line)
  const problem = problemOf(subject)
  if (problem === undefined) continue
  failures++
  console.error(`${revision} "${subject}" ${problem}`)
}
if (failures > 0) process.exit(1)
console.log(`commits: ${commits.length} subjects keep the convention`)
