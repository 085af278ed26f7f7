/** Git in repositories that tests make. */

import { spawnSync } from 'node:child_process'
import { expect } from 'vitest'

const OPTIONS = [
  'user.name=test',
  'user.email=test@example.com',
  'commit.gpgsign=false',
  // A commit starts no process of its own to tidy up.
  'maintenance.auto=false',
].flatMap(option => ['-c', option])

/** What a command of git prints; it must succeed. */
export function git(cwd: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('git', [...OPTIONS, ...args], { cwd, encoding: 'utf8' })
  expect(status, stderr).toBe(0)
  return stdout.trim()
}
