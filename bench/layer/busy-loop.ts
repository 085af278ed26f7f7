/** A process that does nothing but keep one core busy, while it is let: other load on command. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { processCpuMs } from '../harness/other-load.js'

export interface BusyLoop {
  resume(): void
  pause(): void
  cpuMs(): number
  stop(): Promise<void>
}

/** Starts paused, bound to one core by taskset. @throws where taskset is missing or refuses the core */
export async function startBusyLoop(core: number): Promise<BusyLoop> {
  const program = "process.stdout.write('.'); for (;;);"
  const child: ChildProcess = spawn('taskset', ['-c', String(core), process.execPath, '-e', program], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let said = ''
  child.stderr!.on('data', text => (said += text))
  const failed = Promise.race([
    once(child, 'error').then(([error]) => error as Error),
    once(child, 'close').then(() => new Error(`no busy loop on core ${core}: ${said.trim()}`)),
  ])
  const started = once(child.stdout!, 'data').then(() => undefined)
  const error = await Promise.race([failed, started])
  if (error) throw new Error(`taskset (util-linux): ${error.message}`)
  child.kill('SIGSTOP')
  return {
    resume: () => child.kill('SIGCONT'),
    pause: () => child.kill('SIGSTOP'),
    cpuMs: () => processCpuMs(child.pid!),
    async stop() {
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
    },
  }
}
