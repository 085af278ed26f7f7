/** The golden checkpoints under `cases/`; README.md says what they hold. */

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

const CASES = path.join(import.meta.dirname, 'cases')

/** What a golden checkpoint computes. T = numTokens, H = hiddenSize, K = topK. */
export interface GoldenResult {
  family: string
  layer: number
  /** The language model, where the checkpoint holds several. */
  module?: string
  numTokens: number
  hiddenSize: number
  topK: number
  /** `[T, H]` */
  input: number[]
  /** `[T, H]` */
  routerInput?: number[]
  /** `[T]` */
  tokenIds?: number[]
  sequenceLengths?: number[]
  /** `[T, K]` */
  topkIds: number[]
  /** `[T, K]` */
  topkWeights: number[]
  /** `[T, H]` */
  output: number[]
  /** `[T]`: distance of the selection from another one. */
  margins: number[]
}

export interface GoldenCase {
  name: string
  directory: string
  expected: GoldenResult
}

/** The case of this name. */
export function goldenCase(name: string): GoldenCase {
  const directory = path.join(CASES, name)
  const expected = JSON.parse(readFileSync(path.join(directory, 'expected.json'), 'utf8')) as GoldenResult
  return { name, directory, expected }
}

/** Every case, read at once: they are small. */
export function goldenCases(): GoldenCase[] {
  if (!existsSync(CASES)) return []
  return readdirSync(CASES)
    .filter(name => existsSync(path.join(CASES, name, 'expected.json')))
    .map(goldenCase)
}
