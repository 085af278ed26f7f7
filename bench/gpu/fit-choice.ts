/**
 * Fits the constants of choose_matmul to the times of a sweep, off line:
 *
 *   tsx bench/gpu/fit-choice.ts tune.jsonl
 *
 * The file holds what `cuda_tune` printed (`tools/release/gpu-check`, phase tune), one JSON object per line. Prints the committed constants and the
 * best, with what each loses against the fastest configuration of every cell. Exits 1 where the library chose other than its rules say here:
 * then bench/gpu/choice.ts is behind the library.
 */

import { readFileSync } from 'node:fs'
import {
  COMMITTED,
  type Constants,
  cellsOf,
  checkRules,
  fitConstants,
  lossOf,
  type Timing,
} from './choice.js'

const file = process.argv[2]
if (!file || process.argv.length > 3) {
  console.error('usage: tsx bench/gpu/fit-choice.ts tune.jsonl')
  process.exit(2)
}
const timings = readFileSync(file, 'utf8')
  .split('\n')
  .filter(line => line.startsWith('{') && line.endsWith('}'))
  .map(line => JSON.parse(line) as Timing)
const cells = cellsOf(timings)
if (cells.length === 0) {
  console.error(`fit-choice: no timings in ${file}`)
  process.exit(1)
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`
function tell(title: string, constants: Constants) {
  const { mean, worst, cells: count } = lossOf(cells, constants)
  const list = Object.entries(constants).map(([name, value]) => `${name} ${value}`)
  console.log(`${title}: ${list.join(', ')}`)
  console.log(`  ${count} cells, on average ${percent(mean)} slower than the best configuration`)
  if (!worst) return
  const { cell, best, share } = worst
  console.log(
    `  at worst ${percent(share)}: ${cell.shape} T=${cell.tokens} ${cell.routing}, ${cell.matmul}: ${cell.variant} ${cell.tileTokens} ` +
      `(${cell.us.toFixed(1)} us) instead of ${best.variant} ${best.tileTokens}, ${best.stages} stages (${best.us.toFixed(1)} us)`,
  )
}
tell('committed', COMMITTED)
tell('fitted', fitConstants(cells))

const other = checkRules(cells)
for (const [cell] of other) {
  console.error(
    `fit-choice: ${cell!.shape} T=${cell!.tokens}, ${cell!.matmul}: the library chose other than its rules here`,
  )
}
process.exit(other.length > 0 ? 1 : 0)
