/** The shapes that the goals are about. */

import { type BenchShape, shapeNamed } from '../harness/shapes.js'

const NAMES = ['DeepSeek-V2-Lite', 'OLMoE-1B-7B', 'Qwen3-30B-A3B', 'small'] as const

export const GOAL_SHAPES: readonly BenchShape[] = NAMES.map(name => shapeNamed(name)!)
