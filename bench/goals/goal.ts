/** One verdict, and how the case that it is about is called. */

import { threadsText } from '../report/tables.js'
import { labelOf } from './goal-shapes.js'

export interface Bar {
  /** Which of the bars. */
  bar: string
  what: string
  measured: string
  needed: string
  holds: boolean
  /** Other load was there: no verdict to rely on. */
  disturbed: boolean
}

/** `S1 bf16 T=8, 2 threads` */
export function caseName(row: { shape: string; dtype: string; threads: number; numTokens?: number }): string {
  const tokens = row.numTokens === undefined ? '' : ` T=${row.numTokens}`
  return `${labelOf(row.shape)} ${row.dtype}${tokens}, ${threadsText(row.threads)}`
}
