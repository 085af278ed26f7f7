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

/** Where this process's own group of a version is seen in the file system. */
function ownGroup(version: 1 | 2): string | undefined {
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
  const [, , , root, point] = mount[0]!
  const group = line.slice(2).join(':')
  return path.join(point!, group.startsWith(root!) ? group.slice(root === '/' ? 0 : root!.length) : '')
}

/** Makes a group of so many bytes, or says why not. */
export function makeMemoryGroup(limitBytes: number): MemoryGroup | string {
  const reasons: string[] = []
  for (const version of [2, 1] as const) {
    const own = ownGroup(version)
    if (own === undefined) {
      reasons.push(`version ${version} is not mounted`)
      continue
    }
    const directory = path.join(own, `sparse-experts-test-${process.pid}`)
    try {
      if (version === 2 && !text(own, 'cgroup.subtree_control')?.includes('memory'))
        writeFileSync(path.join(own, 'cgroup.subtree_control'), '+memory')
      mkdirSync(directory)
    } catch (error) {
      reasons.push(`version ${version}: ${(error as Error).message}`)
      continue
    }
    try {
      writeFileSync(
        path.join(directory, version === 1 ? 'memory.limit_in_bytes' : 'memory.max'),
        String(limitBytes),
      )
    } catch (error) {
      rmdirSync(directory)
      reasons.push(`version ${version}: ${(error as Error).message}`)
      continue
    }
    return {
      version,
      file: path.join(directory, 'cgroup.procs'),
      kills: () => {
        const events = text(directory, version === 1 ? 'memory.oom_control' : 'memory.events') ?? ''
        return Number(/^oom_kill (\d+)/m.exec(events)?.[1] ?? 0)
      },
      remove: () => rmdirSync(directory),
    }
  }
  return reasons.join('; ')
}
