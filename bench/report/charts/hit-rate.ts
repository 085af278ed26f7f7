import type { Simulation } from '../../harness/package.js'
import { BASE, type Chart, title } from './style.js'

/** A cache that was simulated on a trace. */
export interface SimulatedCache {
  /** Of the bytes of all experts, in (0, 1]. */
  share: number
  simulation: Simulation
}

/** Hits over memory, a line for each policy, and above them the most that any could have. */
export function hitRateChart(caches: readonly SimulatedCache[], subtitle: string): Chart {
  const ofPolicies = caches.map(({ share, simulation }) => ({
    ...{ share, policy: simulation.policy as string, hitRate: simulation.hitRate },
  }))
  const bounds = new Map(caches.map(({ share, simulation }) => [share, simulation.belady.hitRate]))
  const values = [
    ...ofPolicies,
    ...[...bounds].map(([share, hitRate]) => ({ share, policy: 'best of any policy', hitRate })),
  ]
  return {
    name: 'hit-rate',
    caption: 'Experts that are in memory when a call needs them, over the memory that they have',
    spec: {
      ...BASE,
      title: title('Hits over memory', subtitle),
      data: { values },
      width: 420,
      height: 260,
      mark: { type: 'line', point: true, strokeWidth: 1.5 },
      encoding: {
        x: {
          field: 'share',
          type: 'quantitative',
          axis: { title: 'memory, of what all experts take', format: '.0%' },
          scale: { domain: [0, 1] },
        },
        y: {
          field: 'hitRate',
          type: 'quantitative',
          axis: { title: 'hits of needed experts', format: '.0%' },
          scale: { domain: [0, 1] },
        },
        color: {
          field: 'policy',
          type: 'nominal',
          sort: [...new Set(values.map(({ policy }) => policy))],
          title: null,
        },
      },
    },
  }
}
