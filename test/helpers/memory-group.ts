/** Control groups with a limit of memory, of whichever version this system has, where this process may make one. */

import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'

/** A group. Who writes the number of a process into `file` puts it there. */
export interface MemoryGroup {
  version: 1 | 2
  file: string
  /** Processes of it that the kernel has ended for want of memory. */
  kills(): number
  /** To be called when its processes have ended. */
  remove(): void
}

/** A file of a group's; undefined where there is none. */
const text = (...names: string[]): string | undefined => {
  try {
    return readFileSync(path.join(...names), 'utf8')
  } catch {
    return undefined
  }
}

/** Where this process's own group of a version is seen in the file system, and the top of what is seen there. */
function ownGroup(version: 1 | 2): { directory: string; top: string } | undefined {
  // A Windows of Wine's sees those of the system below it, and is in none.
  if (process.platform !== 'linux') return undefined
  const line = (text('/proc/self/cgroup') ?? '')
    .split('\n')
    .map(entry => entry.split(':'))
    .find(([, controllers]) =>
      version === 1 ? controllers?.split(',').includes('memory') : controllers === '',
    )
  const mount = (text('/proc/self/mountinfo') ?? '')
    .split('\n')
    .map(entry => entry.split(' - ').map(half => half.split(' ')))
    .find(
      ([, kind]) =>
        kind?.[0] === (version === 1 ? 'cgroup' : 'cgroup2') &&
        (version === 2 || kind.at(-1)!.split(',').includes('memory')),
    )
  if (!line || !mount) return undefined
  const [, , , root, top] = mount[0]!
  const group = line.slice(2).join(':')
  const inner = group.startsWith(root!) ? group.slice(root === '/' ? 0 : root!.length) : ''
  return { directory: path.join(top!, inner), top: top! }
}

/**
 * Groups below which one may be made. Of version 2 a group with processes in it has none with a limit below it, but beside it there may be: so
 * those that it lies in come too, which all have the controller.
 */
function parents(version: 1 | 2): string[] | string {
  const own = ownGroup(version)
  if (!own) return `version ${version} is not mounted`
  if (version === 1) return [own.directory]
  const found: string[] = []
  for (let directory = own.directory; directory.startsWith(own.top); directory = path.dirname(directory))
    found.push(directory)
  const usable = found.filter(one => text(one, 'cgroup.controllers')?.split(/\s/).includes('memory'))
  return usable.length > 0 ? usable : 'version 2 does not have the memory controller here'
}

/** @throws what the system says */
function makeBelow(version: 1 | 2, parent: string, limitBytes: number): string {
  const directory = path.join(parent, `sparse-experts-test-${process.pid}`)
  if (version === 2 && !text(parent, 'cgroup.subtree_control')?.split(/\s/).includes('memory'))
    writeFileSync(path.join(parent, 'cgroup.subtree_control'), '+memory')
  mkdirSync(directory)
  try {
    const file = version === 1 ? 'memory.limit_in_bytes' : 'memory.max'
    writeFileSync(path.join(directory, file), String(limitBytes))
    return directory
  } catch (error) {
    rmdirSync(directory)
    throw error
  }
}

/** Makes a group of so many bytes, of the first of these versions with which that is possible; or says why not. */
export function makeMemoryGroup(
  limitBytes: number,
  versions: readonly (1 | 2)[] = [2, 1],
): MemoryGroup | string {
  const reasons: string[] = []
  for (const version of versions) {
    const below = parents(version)
    if (typeof below === 'string') {
      reasons.push(below)
      continue
    }
    for (const parent of below) {
      try {
        const directory = makeBelow(version, parent, limitBytes)
        return {
          version,
          file: path.join(directory, 'cgroup.procs'),
          kills: () => {
            const events = text(directory, version === 1 ? 'memory.oom_control' : 'memory.events') ?? ''
            return Number(/^oom_kill (\d+)/m.exec(events)?.[1] ?? 0)
          },
          remove: () => rmdirSync(directory),
        }
      } catch (error) {
        reasons.push(`version ${version}: ${(error as Error).message}`)
      }
    }
  }
  return reasons.join('; ')
}
