/** The published shapes as the C++ benchmarks take them: NAME:H:I:E:K:SHARED. Run by itself, prints them, one per line. */

import { fileURLToPath } from 'node:url'
import type { MoeConfig } from '../lib/index.js'
import { MODEL_SHAPES } from '../test/cases.js'

export const SHAPES = Object.entries(MODEL_SHAPES as Record<string, MoeConfig>)

/** Rows of the shared expert's matrices; 0 without one. */
export function sharedSize(config: MoeConfig): number {
  if (!config.numSharedExperts) return 0
  return config.sharedIntermediateSize ?? config.numSharedExperts * config.intermediateSize
}

export function shapeArgument(name: string, config: MoeConfig): string {
  const { hiddenSize, intermediateSize, numExperts, topK } = config
  return [name, hiddenSize, intermediateSize, numExperts, topK, sharedSize(config)].join(':')
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, config] of SHAPES) if (name !== 'small') console.log(shapeArgument(name, config))
}
