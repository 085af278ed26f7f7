/**
 * `npm run bench:goals`: everything that the CPU backend is asked to reach, measured and judged by one command. Steps: run the benchmarks
 * one after the other, each in a process of its own; collect their results; judge. With --from only the last two.
 *
 * Ends with status 1 when a benchmark fails, never because of a figure: no test asserts on time.
 */

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { runCommand, UsageError } from '../harness/command-line.js'
import { machineLines } from '../harness/result-lines.js'
import { writeResults } from '../harness/results.js'
import { collect, readAll } from './collect.js'
import { GOALS_USAGE, type GoalsOptions, parseGoalsOptions } from './goals-options.js'
import { judge } from './judge.js'
import { runPart } from './parts.js'
import { verdictLines, verdictSummary } from './verdict-table.js'

async function main(options: GoalsOptions): Promise<void> {
  const directory =
    options.from ?? options.out ?? mkdtempSync(path.join(os.tmpdir(), 'sparse-experts-goals-'))
  const isOurs = options.from === undefined && options.out === undefined
  try {
    if (options.from === undefined) {
      mkdirSync(directory, { recursive: true })
      for (const part of options.parts) {
        console.log(`\n— ${part}`)
        runPart(part, options, directory)
      }
    }
    const collected = collect(readAll(directory))
    if (!collected.newest) throw new UsageError(`there are no results in ${directory}`)
    const verdicts = judge(collected)
    console.log(`\n${collected.newest.environment.cpu}, revision ${collected.newest.revision || 'unknown'}`)
    if (collected.machine) console.log(machineLines(collected.machine).join('\n'))
    for (const line of verdictLines(verdicts)) console.log(line)
    console.log(`\n${verdictSummary(verdicts)}`)
    if (options.json) writeResults(options.json, { ...collected.newest.environment, verdicts })
  } finally {
    if (isOurs) rmSync(directory, { recursive: true, force: true })
  }
}

await runCommand(GOALS_USAGE, args => main(parseGoalsOptions(args)))
