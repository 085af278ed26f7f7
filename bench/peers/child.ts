/** A peer in a process of its own that answers requests: one line of JSON out, one back; the protocol stands in torch_loop.py. */

import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { processCpuMs } from '../harness/other-load.js'
import type { Peer, PeerLayer } from '../harness/peer.js'

export async function createChildPeer(
  name: string,
  dtype: 'f32' | 'bf16',
  layer: PeerLayer,
  command: readonly [program: string, ...args: string[]],
): Promise<Peer> {
  const { directory } = layer
  const { hiddenSize } = layer.config
  const [program, ...args] = command
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const ask = conversation(child, name)
  await ask(null)
  return {
    name,
    dtype,
    times: async (tokens, first, calls) => (await ask({ tokens, first, calls })).ms!,
    async output(tokens) {
      const file = path.join(directory, `${dtype}.out`)
      writeFileSync(file, new Uint8Array(4 * tokens * hiddenSize))
      await ask({ tokens, output: file })
      const bytes = readFileSync(file)
      return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
    },
    cpuMs: () => processCpuMs(child.pid!),
    async close() {
      const ended = new Promise(resolve => child.once('exit', resolve))
      child.stdin!.end()
      await ended
    },
  }
}

/** What such a process has to know beside the files of the weights. */
export function describeLayer({ config, threads, hidden, weights }: PeerLayer, dtype: string) {
  const { hiddenSize, intermediateSize, numExperts, topK } = config
  const sharedSize = weights.shared ? (weights.shared.up as Uint16Array).length / hiddenSize : 0
  const numRows = hidden.length / hiddenSize
  return { hiddenSize, intermediateSize, numExperts, topK, sharedSize, numRows, threads, dtype }
}

/** One line out, one line back; null only listens (for the greeting). */
function conversation(
  child: ChildProcess,
  name: string,
): (request: object | null) => Promise<{ ms?: number[] }> {
  const lines = createInterface({ input: child.stdout! })
  const answers = lines[Symbol.asyncIterator]()
  return async request => {
    if (request !== null) child.stdin!.write(`${JSON.stringify(request)}\n`)
    const { value, done } = await answers.next()
    if (done) throw new Error(`the process of ${name} ended`)
    return JSON.parse(value) as { ms?: number[] }
  }
}
