/** How long a simulation of a million calls takes. */

import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { formatDuration } from '../../lib/cli/format.js'
import { TraceWriter } from '../../lib/trace/writer.js'
import { Random } from '../../test/cases/random.js'
import { type CachePolicyName, type CacheScope, readTrace, simulate } from '../harness/package.js'

export interface SimulationRow {
  calls: number
  layers: number
  numExperts: number
  topK: number
  policy: CachePolicyName
  scope: CacheScope
  /** Processor time: the goal is 10 s for a million calls. */
  cpuMs: number
}

const LAYERS = 27
const EXPERTS = 64
const TOP_K = 6
const SHARE = 0.25

/** @param calls one row each, of 27 layers in turn, half of whose experts are those of the row before */
export async function measureSimulations(calls: number): Promise<SimulationRow[]> {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sparse-experts-simulated-'))
  try {
    await writeTrace(directory, calls)
    const trace = await readTrace(directory)
    const rows: SimulationRow[] = []
    for (const scope of ['layer', 'model'] as const)
      for (const policy of ['lru', 'lfu', 'lfru', 'static'] as const) {
        const before = process.cpuUsage()
        await simulate(trace, { cache: { slots: SHARE * EXPERTS, policy, scope } })
        const { user, system } = process.cpuUsage(before)
        rows.push({
          ...{ calls, layers: LAYERS, numExperts: EXPERTS, topK: TOP_K, policy, scope },
          cpuMs: (user + system) / 1000,
        })
      }
    return rows
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

async function writeTrace(directory: string, calls: number): Promise<void> {
  const random = new Random(1)
  const layers = Array.from({ length: LAYERS }, (_, layer) => ({
    ...{
      layer,
      numExperts: EXPERTS,
      topK: TOP_K,
      expertBytes: 1e6,
      dtype: 'bf16',
      configHash: '0'.repeat(16),
    },
  }))
  const writer = new TraceWriter(directory, layers, { withWeights: false })
  const last = layers.map(() => new Set<number>())
  for (let call = 0; call < calls; call++) {
    const index = call % LAYERS
    const ids = new Set([...last[index]!].filter(() => random.uniform() < 0.5))
    while (ids.size < TOP_K) ids.add(Math.floor(EXPERTS * random.uniform() ** 2))
    last[index] = ids
    writer.add({
      ...{
        index,
        topkIds: Int32Array.from(ids),
        topkWeights: new Uint16Array(0),
        micros: call,
        isJoined: false,
      },
    })
  }
  await writer.end()
}

export const simulationLine = (row: SimulationRow): string =>
  `${row.calls.toLocaleString('en-US')} calls simulated, ${row.layers} layers, ${row.topK} of ${row.numExperts}, ${row.policy} by ${row.scope}: ` +
  `${formatDuration(row.cpuMs)} of processor time (goal 10 s a million)`
