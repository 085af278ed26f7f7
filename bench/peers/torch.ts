/** PyTorch: the loop over experts of torch_loop.py in a process of its own, asked for one block of calls at a time. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { processCpuMs } from '../other-load.js'
import type { Peer, PeerLayer } from './peer.js'

const SCRIPT = path.join(import.meta.dirname, 'torch_loop.py')
/** Debian's python3-torch belongs to the system's interpreter, whatever else comes first on PATH. */
const INTERPRETERS = [process.env.PYTHON, '/usr/bin/python3', 'python3'].filter(name => name !== undefined)

export interface TorchInstallation {
  python: string
  version: string
}

/** @returns undefined where no interpreter has PyTorch */
export function findTorch(): TorchInstallation | undefined {
  for (const python of INTERPRETERS) {
    const { status, stdout } = spawnSync(python, ['-c', 'import torch; print(torch.__version__)'], {
      encoding: 'utf8',
    })
    if (status === 0) return { python, version: stdout.trim() }
  }
  return undefined
}

export const NO_TORCH =
  "no PyTorch here: 'apt-get install python3-torch' on Debian, or PYTHON=… with one that has it"

export async function createTorch(layer: PeerLayer, dtype: 'f32' | 'bf16', python: string): Promise<Peer> {
  const { config, directory, threads, hidden, weights } = layer
  const { hiddenSize, intermediateSize, numExperts, topK } = config
  const sharedSize = weights.shared ? (weights.shared.up as Uint16Array).length / hiddenSize : 0
  const numRows = hidden.length / hiddenSize
  const described = { hiddenSize, intermediateSize, numExperts, topK, sharedSize, numRows, threads, dtype }
  writeFileSync(path.join(directory, 'config.json'), JSON.stringify(described))
  const child = spawn(python, [SCRIPT, directory], { stdio: ['pipe', 'pipe', 'inherit'] })
  const ask = conversation(child)
  await ask(null)
  return {
    name: 'PyTorch loop',
    dtype,
    times: async (tokens, first, calls) => (await ask({ tokens, first, calls })).ms!,
    async output(tokens) {
      const file = path.join(directory, `torch.${dtype}.out`)
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

/** One line out, one line back; null only listens (for the greeting). */
function conversation(child: ChildProcess): (request: object | null) => Promise<{ ms?: number[] }> {
  const lines = createInterface({ input: child.stdout! })
  const answers = lines[Symbol.asyncIterator]()
  return async request => {
    if (request !== null) child.stdin!.write(`${JSON.stringify(request)}\n`)
    const { value, done } = await answers.next()
    if (done) throw new Error('the PyTorch process ended')
    return JSON.parse(value) as { ms?: number[] }
  }
}
