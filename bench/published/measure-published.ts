/**
 * Loads one layer each of published checkpoints at its published sizes, written with random weights, and runs it:
 * `npm run bench:published [-- --only NAME,…]`. Prints what is stored and held, the peak of memory while loading, and times.
 */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { peakRssBytes, resetPeakRss } from '../harness/memory.js'
import { MoeLayer } from '../harness/package.js'
import { PUBLISHED_LAYERS } from './published-layers.js'
import { writePublished } from './write-layer.js'

const { values } = parseArgs({ options: { only: { type: 'string' }, child: { type: 'string' } } })
const MIB = 2 ** 20

interface Report {
  storedBytes: number
  heldBytes: number
  peakBytes: number
  loadSeconds: number
  format: string
  ms: Record<number, number>
}

/** In a process of its own, so that the peak is that of one load. */
async function measure(name: string): Promise<Report> {
  const published = PUBLISHED_LAYERS.find(layer => layer.name === name)!
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sparse-experts-published-'))
  try {
    const { source, storedBytes } = writePublished(published, directory)
    const before = await resetPeakRss()
    const began = performance.now()
    const layer = await MoeLayer.load(source, { device: 'cpu', layer: published.layer })
    const loadSeconds = (performance.now() - began) / 1000
    const peakBytes = peakRssBytes() - before
    const [up] = [layer.weightFormat.up].flat()
    const [down] = [layer.weightFormat.down].flat()
    if (up!.stored !== published.stored[0] || down!.stored !== published.stored[1])
      throw new Error(`${name}: expected ${published.stored.join(', ')}, read ${up!.stored}, ${down!.stored}`)
    const ms: Report['ms'] = {}
    for (const numTokens of [1, 8]) {
      const hidden = Float32Array.from({ length: numTokens * published.hiddenSize }, (_, i) => Math.sin(i))
      layer.forwardSync(hidden)
      const times = Array.from({ length: 7 }, () => {
        const start = performance.now()
        const { nonFiniteRows } = layer.forwardSync(hidden)
        if (nonFiniteRows.length > 0) throw new Error(`${name}: rows that are not finite`)
        return performance.now() - start
      })
      ms[numTokens] = times.sort((a, b) => a - b)[3]!
    }
    const format = `${up!.stored} → ${up!.held}${down!.held === up!.held ? '' : `, ${down!.held}`}`
    const report = { storedBytes, heldBytes: layer.stats().hostBytes, peakBytes, loadSeconds, format, ms }
    layer.dispose()
    return report
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

if (values.child !== undefined) {
  console.log(JSON.stringify(await measure(values.child)))
} else {
  const chosen = values.only?.split(',') ?? PUBLISHED_LAYERS.map(({ name }) => name)
  console.log(
    '| layer | form | stored MiB | held / stored | peak over held, MiB | load s | T=1 ms | T=8 ms |',
  )
  console.log('| --- | --- | --- | --- | --- | --- | --- | --- |')
  for (const name of chosen) {
    const args = [...process.execArgv, fileURLToPath(import.meta.url), '--child', name]
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
    if (status !== 0) throw new Error(`${name}: ${stderr}`)
    const report = JSON.parse(stdout.trim().split('\n').at(-1)!) as Report
    const cells = [
      name,
      report.format,
      (report.storedBytes / MIB).toFixed(0),
      (report.heldBytes / report.storedBytes).toFixed(4),
      ((report.peakBytes - report.heldBytes) / MIB).toFixed(1),
      report.loadSeconds.toFixed(2),
      report.ms[1]!.toFixed(2),
      report.ms[8]!.toFixed(2),
    ]
    console.log(`| ${cells.join(' | ')} |`)
  }
}
