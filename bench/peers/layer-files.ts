/**
 * The layer's weights as raw files, for peers that do not take arrays. `fc1` is `[E, 2I, H]` with gate and up rows alternating, the only
 * layout that onnxruntime's CPU kernel takes; `fc2` is `[E, H, I]`; both once in f32 and once in bf16.
 */

import { closeSync, openSync, writeSync } from 'node:fs'
import path from 'node:path'
import { type ExpertWeights, toFloat32 } from '../harness/package.js'
import type { PeerLayer } from '../harness/peer.js'

/** The bits of one matrix; the benchmark's weights are plain arrays. */
export const bitsOf = (matrix: unknown) => matrix as Uint16Array

/** `[2I, H]`: gate 0, up 0, gate 1, up 1 … */
export function interleave(expert: ExpertWeights, cols: number): Uint16Array {
  const [gate, up] = [bitsOf(expert.gate), bitsOf(expert.up)]
  const out = new Uint16Array(2 * gate.length)
  for (let at = 0; at < gate.length; at += cols) {
    out.set(gate.subarray(at, at + cols), 2 * at)
    out.set(up.subarray(at, at + cols), 2 * at + cols)
  }
  return out
}

export function writeLayerFiles({ config, weights, hidden, directory }: PeerLayer): void {
  const write = (name: string, parts: Iterable<ArrayBufferView>) => {
    const file = openSync(path.join(directory, name), 'w')
    for (const part of parts) writeSync(file, new Uint8Array(part.buffer, part.byteOffset, part.byteLength))
    closeSync(file)
  }
  const { hiddenSize } = config
  const { experts, shared, router } = weights
  const parts: Record<string, Uint16Array[]> = {
    fc1: [],
    fc2: experts.map(expert => bitsOf(expert.down)),
    shared: shared ? [shared.gate, shared.up, shared.down].map(bitsOf) : [],
  }
  for (const [name, matrices] of Object.entries(parts)) {
    // One expert at a time: the whole layer in f32 need not be in memory.
    const pieces =
      name === 'fc1'
        ? experts.map(expert => () => interleave(expert, hiddenSize))
        : matrices.map(m => () => m)
    write(`${name}.bf16`, lazily(pieces))
    write(`${name}.f32`, lazily(pieces.map(piece => () => toFloat32(piece(), 'bf16'))))
  }
  write('router.f32', [router!.weight as Float32Array])
  write('hidden.f32', [hidden])
}

function* lazily<T>(makers: readonly (() => T)[]): Iterable<T> {
  for (const make of makers) yield make()
}
