/**
 * `npm run bench:peers`: the same layer through this package and through what a Node user could take instead, interleaved in one run.
 * Steps: install the peers in this folder, measure the machine, make one layer's weights, write them as files, run each group of
 * comparable peers in rounds, compare their outputs. Peers that are not here are named with what to install.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { runCommand } from '../harness/command-line.js'
import { bestOf, environment, machineMeasurement, QUICK_MEASURE_MS } from '../harness/machine.js'
import { createOurs } from '../harness/our-layer.js'
import type { PeerLayer } from '../harness/peer.js'
import { machineLines } from '../harness/result-lines.js'
import { revision, writeResults } from '../harness/results.js'
import type { BenchShape } from '../harness/shapes.js'
import { comparePeers } from './compare-peers.js'
import { installLlama } from './llama/llama-packages.js'
import { measureContext } from './llama/measure-llama.js'
import { oneDnnVersion } from './onednn.js'
import { FAST_INT4 } from './onnxruntime.js'
import { PEER_GROUPS } from './peer-groups.js'
import { makePeerLayer } from './peer-layer.js'
import { installPeers, peerVersion } from './peer-packages.js'
import { PEERS_USAGE, type PeersOptions, parsePeersOptions } from './peers-options.js'
import { contextLine, PEER_HEAD, type PeerResults, peerLine } from './peers-results.js'
import { findTorch } from './torch.js'

async function main(options: PeersOptions): Promise<void> {
  const results: PeerResults = {
    benchmark: 'sparse-experts peers',
    date: new Date().toISOString(),
    revision: revision(),
    environment: environment(),
    machine: null,
    versions: { node: process.version },
    rows: [],
    contexts: [],
    notMeasured: [],
  }
  describePeers(results)
  const { cpu, architecture, cores } = results.environment
  const threadCounts = [...new Set(options.threads.map(count => count || cores))]
  const measureMachine = machineMeasurement(
    [1, ...threadCounts],
    options.quick ? { milliseconds: QUICK_MEASURE_MS, retries: 0 } : {},
  )
  results.machine = measureMachine()
  if (results.machine && !results.machine.fmaInstruction?.startsWith('avx512')) {
    const reason = `${FAST_INT4} has no effect without AVX-512: its int4 rows are the slow path`
    results.notMeasured.push({ what: 'onnxruntime-node fast int4', reason })
  }
  console.log(`${cpu} (${architecture}); ${JSON.stringify(results.versions)}`)
  if (results.machine) console.log(machineLines(results.machine).join('\n'))
  console.log(`\n${PEER_HEAD}`)
  for (const shape of options.shapes) {
    for (const threads of threadCounts) await compareShape(shape, threads, options, results)
  }
  const after = results.machine && measureMachine()
  if (results.machine && after) results.machine = bestOf(results.machine, after)
  for (const { what, reason } of results.notMeasured) console.log(`${what}: not measured (${reason})`)
  if (options.json) writeResults(options.json, results)
}

/** Names and versions of those that are here. */
function describePeers(results: PeerResults): void {
  try {
    installPeers()
    results.versions['onnxruntime-node'] = peerVersion('onnxruntime-node')
  } catch (error) {
    results.notMeasured.push({ what: 'onnxruntime-node', reason: (error as Error).message.split('\n')[0]! })
  }
  const torch = findTorch()
  if (torch) Object.assign(results.versions, { torch: torch.version, 'BLAS of torch': torch.blas })
  const oneDnn = oneDnnVersion()
  if (oneDnn) results.versions.oneDNN = oneDnn
}

async function compareShape(
  shape: BenchShape,
  threads: number,
  options: PeersOptions,
  results: PeerResults,
): Promise<void> {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sparse-experts-peers-'))
  try {
    const layer = makePeerLayer(shape, options.tokens, threads, directory)
    const reference = createOurs(layer, 'f32')
    const expected = new Map<number, Float32Array>()
    for (const numTokens of options.tokens) expected.set(numTokens, await reference.output(numTokens))
    await reference.close()
    for (const group of options.parts) {
      if (group === 'context') {
        await showContext(layer, options, results)
        continue
      }
      const onRow = (row: PeerResults['rows'][number]) => console.log(peerLine(row))
      const compared = await comparePeers(layer, group, PEER_GROUPS[group], options, expected, onRow)
      results.rows.push(...compared.rows)
      results.notMeasured.push(...compared.notMeasured)
      if (compared.isWrong) process.exitCode = 1
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Where it is not to be had, or has no such layer, the results say so. */
async function showContext(layer: PeerLayer, options: PeersOptions, results: PeerResults): Promise<void> {
  try {
    results.versions['node-llama-cpp'] = installLlama()
    for (const form of options.forms) {
      for (const row of await measureContext(layer, form, options)) {
        results.contexts.push(row)
        console.log(contextLine(row))
      }
    }
  } catch (error) {
    const reason = (error as Error).message.split('\n')[0]!
    results.notMeasured.push({ what: `${layer.shape} node-llama-cpp`, reason })
  }
}

await runCommand(PEERS_USAGE, args => main(parsePeersOptions(args)))
