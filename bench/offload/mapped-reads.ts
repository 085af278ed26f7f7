/** A process that maps the checkpoint and touches experts, as programs do that leave reading to the system's page faults. */

import { spawn, spawnSync } from 'node:child_process'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { processCpuMs } from '../harness/other-load.js'
import type { ByteRange } from './raw-reads.js'

const BUILD_SCRIPT = path.join(import.meta.dirname, '../../tools/build/mapped-reads.mjs')

export interface MappedReads {
  /** Milliseconds in which all of them are touched. */
  times(ranges: readonly ByteRange[]): Promise<number>
  cpuMs(): number
  close(): void
}

/** @throws where it cannot be built */
export function openMappedReads(threads: number): MappedReads {
  const { status, stdout } = spawnSync(process.execPath, [BUILD_SCRIPT], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (status !== 0) throw new Error(`mapped_reads was not built:\n${stdout}`)
  const program = stdout.trim().split('\n').at(-1)!
  const child = spawn(program, [String(threads)], { stdio: ['pipe', 'pipe', 'inherit'] })
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
