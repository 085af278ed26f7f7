/** PyTorch: the loop over experts of torch_loop.py. */

import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import type { Peer, PeerLayer } from '../harness/peer.js'
import { createChildPeer, describeLayer } from './child.js'

const SCRIPT = path.join(import.meta.dirname, 'torch_loop.py')
/** Debian's python3-torch belongs to the system's interpreter, whatever else comes first on PATH. */
const INTERPRETERS = [process.env.PYTHON, '/usr/bin/python3', 'python3'].filter(name => name !== undefined)
/** Prints the version and the file that the BLAS's functions come from, where that is a file of its own. */
const PROBE = `
import torch, os
print(torch.__version__)
maps = open('/proc/self/maps').read().split() if os.path.exists('/proc/self/maps') else []
print(next((os.path.realpath(word) for word in maps if 'libblas' in word or 'openblas' in word), 'built in'))`

export interface TorchInstallation {
  python: string
  version: string
  /** Which BLAS its f32 products come from. */
  blas: string
}

let found: TorchInstallation | null | undefined

/** @returns undefined where no interpreter has PyTorch */
export function findTorch(): TorchInstallation | undefined {
  if (found === undefined) {
    found = null
    for (const python of INTERPRETERS) {
      const { status, stdout } = spawnSync(python, ['-c', PROBE], { encoding: 'utf8' })
      if (status !== 0) continue
      const [version, blas] = stdout.trim().split('\n')
      found = { python, version: version!, blas: path.basename(blas!) }
      break
    }
  }
  return found ?? undefined
}

/**
 * Debian's PyTorch takes whatever BLAS is installed; with the reference one, written for correctness, its f32 times would say nothing
 * about PyTorch.
 */
const REFERENCE_BLAS = /^libblas\.so/

export async function createTorch(layer: PeerLayer, dtype: 'f32' | 'bf16'): Promise<Peer> {
  const torch = findTorch()
  if (!torch) {
    throw new Error(
      "no PyTorch here: 'apt-get install python3-torch libopenblas0-pthread' on Debian, or PYTHON=… with one that has it",
    )
  }
  if (dtype === 'f32' && REFERENCE_BLAS.test(torch.blas)) {
    throw new Error(
      "it would run on the reference BLAS, which is slow by design: 'apt-get install libopenblas0-pthread'",
    )
  }
  writeFileSync(path.join(layer.directory, 'config.json'), JSON.stringify(describeLayer(layer, dtype)))
  return createChildPeer('PyTorch loop', dtype, layer, [torch.python, SCRIPT, layer.directory])
}
