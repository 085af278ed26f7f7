import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it, vi } from 'vitest'
import { startBusyLoop } from '../../bench/layer/busy-loop.js'

const hasTaskset = process.platform === 'linux' && spawnSync('taskset', ['--version']).status === 0

/** The first core that this process may use: a container's need not begin at 0. */
function allowedCore(): number {
  const list = /^Cpus_allowed_list:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))
  return Number(list?.[1] ?? 0)
}

it.skipIf(!hasTaskset)('a busy loop takes time only while it is let', async () => {
  const loop = await startBusyLoop(allowedCore())
  try {
    // It may have been on the way to its pause when it was started: what counts is that it comes to rest, and leaves it when it is let.
    await vi.waitFor(async () => {
      const before = loop.cpuMs()
      await sleep(200)
      expect(loop.cpuMs()).toBe(before)
    }, 60_000)
    const rest = loop.cpuMs()
    loop.resume()
    await expect.poll(() => loop.cpuMs() - rest, { timeout: 60_000 }).toBeGreaterThan(100)
    loop.pause()
  } finally {
    await loop.stop()
  }
  expect(loop.cpuMs()).toBe(0)
})

it.skipIf(!hasTaskset)('says when there is no such core', async () => {
  await expect(startBusyLoop(100_000)).rejects.toThrow(/taskset .*no busy loop on core 100000: ./)
})
