/** The verdict on one goal in one case, and the name of that case. */

import { threadsText } from '../harness/tables.js'

export interface Verdict {
  goal: string
  what: string
  measured: string
  needed: string
  holds: boolean
  /** Other load was on the machine, so the verdict says little. */
  disturbed: boolean
}

/** `Qwen3-30B-A3B bf16 T=8, 2 threads` */
export function caseName(row: { shape: string; dtype: string; threads: number; numTokens?: number }): string {
  const tokens = row.numTokens === undefined ? '' : ` T=${row.numTokens}`
  return `${row.shape} ${row.dtype}${tokens}, ${threadsText(row.threads)}`
}
