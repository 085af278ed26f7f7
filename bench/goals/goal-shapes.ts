/** The shapes that the bars speak of, by their short names. */

import { type BenchShape, shapeNamed } from '../harness/shapes.js'

const NAMES = { S1: 'DeepSeek-V2-Lite', S2: 'OLMoE-1B-7B', S3: 'Qwen3-30B-A3B', S4: 'small' } as const

export const BAR_SHAPES: readonly { label: string; shape: BenchShape }[] = Object.entries(NAMES).map(
  ([label, name]) => ({ label, shape: shapeNamed(name)! }),
)

/** `S1` … where a shape has such a name, else its own. */
export function labelOf(shapeName: string): string {
  return BAR_SHAPES.find(({ shape }) => shape.name === shapeName)?.label ?? shapeName
}
