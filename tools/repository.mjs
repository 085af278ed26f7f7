import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

/** The root of the repository, where all tools work. */
export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..')

/** All files of the working tree that git does not ignore, tracked or new, relative to the root. */
export function repositoryFiles() {
  const git = spawnSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  })
  if (git.status !== 0) throw new Error(`git ls-files failed: ${git.stderr ?? git.error}`)
  return [...new Set(git.stdout.split('\0'))].filter(file => file && existsSync(path.join(root, file))).sort()
}
