/** oneDNN: the loop over experts of onednn_loop.cc, built against the system's library where its headers are. */

import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import type { Peer, PeerLayer } from '../harness/peer.js'
import { createChildPeer, describeLayer } from './child.js'

const SOURCE = path.join(import.meta.dirname, 'onednn_loop.cc')
const HEADER = 'oneapi/dnnl/dnnl_version.h'
const MISSING = "no oneDNN here: 'apt-get install libdnnl-dev' on Debian"
const compiler = process.env.CXX ?? 'c++'

/** @returns undefined where its headers are not found */
export function oneDnnVersion(): string | undefined {
  const { status, stdout } = spawnSync(compiler, ['-E', '-dM', '-include', HEADER, '-x', 'c++', '-'], {
    encoding: 'utf8',
    input: '',
  })
  if (status !== 0) return undefined
  const part = (name: string) => new RegExp(`DNNL_VERSION_${name} (\\d+)`).exec(stdout)?.[1]
  return [part('MAJOR'), part('MINOR'), part('PATCH')].join('.')
}

let program: string | undefined

/** Compiled once a run. @throws where there is no oneDNN, or no compiler */
function buildLoop(): string {
  if (program && existsSync(program)) return program
  if (!oneDnnVersion()) throw new Error(MISSING)
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sparse-experts-onednn-'))
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }))
  const built = path.join(directory, 'onednn_loop')
  const flags = ['-std=c++17', '-O3', '-march=native', '-ffast-math', '-fopenmp']
  const { status, stderr } = spawnSync(compiler, [...flags, SOURCE, '-ldnnl', '-o', built], {
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`onednn_loop was not built: ${stderr.split('\n')[0]}`)
  program = built
  return built
}

export async function createOneDnn(layer: PeerLayer): Promise<Peer> {
  const { hiddenSize, intermediateSize, numExperts, topK, sharedSize, numRows, threads } = describeLayer(
    layer,
    'f32',
  )
  const sizes = [hiddenSize, intermediateSize, numExperts, topK, sharedSize, numRows, threads]
  return createChildPeer('oneDNN loop', 'f32', layer, [buildLoop(), layer.directory, ...sizes.map(String)])
}
