/**
 * The limits of the machine in the moments before and after a block of calls. A virtual machine's cores are at times two of the host and at
 * times the two threads of one: a share of a limit measured seconds away from the calls then says more about the host than about the kernels.
 */

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { MachineLimits, Measured } from './machine.js'
import { buildProgram } from './native-program.js'
import { countEndedChild } from './other-load.js'

export interface LimitsProbe {
  measure(): Promise<MachineLimits>
  close(): void
}

/** Milliseconds of one figure: five rounds take longer, and are taken. */
const PROBE_MS = 25

/** A process that keeps the memory it reads, and sleeps between the measurements. @throws where it cannot be built */
export function openLimitsProbe(threads: number): LimitsProbe {
  const args = ['--threads', String(threads), '--milliseconds', String(PROBE_MS), '--follow']
  const child = spawn(buildProgram('machine_limits'), args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = new Promise<never>((_, reject) => {
    child.once('error', reject)
    child.once('exit', status => reject(new Error(`machine_limits ended with status ${status}`)))
  })
  // Told to who measures; nobody else waits for it.
  ended.catch(() => {})
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  let counted = 0
  return {
    async measure() {
      child.stdin.write('\n')
      const { value } = await Promise.race([lines.next(), ended])
      const { cpuMs, ...limits } = JSON.parse(value) as Measured
      countEndedChild(cpuMs - counted)
      counted = cpuMs
      return { ...limits, foreignCores: null }
    },
    close: () => child.stdin.end(),
  }
}
