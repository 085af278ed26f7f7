/**
 * A setup file of vitest: with SE_TEST_SHARD=I/N it skips all tests but those whose name hashes to part I of N. By name and not by file, because
 * a few files take most of the time; and a new test does not move the others to other parts.
 */

import { beforeEach } from 'vitest'

const [part, parts] = (process.env.SE_TEST_SHARD ?? '').split('/').map(Number)
if (!part || !parts || part > parts) throw new Error(`SE_TEST_SHARD=${process.env.SE_TEST_SHARD} is not I/N`)

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193)
  return value >>> 0
}

beforeEach(context => {
  let name = context.task.name
  for (let suite = context.task.suite; suite; suite = suite.suite) name = `${suite.name} > ${name}`
  context.skip((hash(name) % parts) + 1 !== part, `not in shard ${part}/${parts}`)
})
