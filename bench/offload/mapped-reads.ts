/** A process that maps the checkpoint and touches experts, as programs do that leave reading to the system's page faults. */

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { buildProgram } from '../harness/native-program.js'
import { processCpuMs } from '../harness/other-load.js'
import type { ByteRange } from './raw-reads.js'

export interface MappedReads {
  /** Milliseconds in which all of them are touched. */
  times(ranges: readonly ByteRange[]): Promise<number>
  cpuMs(): number
  close(): void
}

/** @throws where it cannot be built */
export function openMappedReads(threads: number): MappedReads {
  const child = spawn(buildProgram('mapped_reads'), [String(threads)], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    async times(ranges) {
      const asked = ranges.map(({ file, offset, bytes }) => `${offset} ${bytes} ${file}\n`).join('')
      child.stdin.write(`${asked}\n`)
      const { value, done } = await lines.next()
      if (done) throw new Error('mapped_reads has ended')
      return Number(value)
    },
    cpuMs: () => processCpuMs(child.pid!),
    close: () => child.stdin.end(),
  }
}
