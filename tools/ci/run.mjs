/**
 * `node tools/ci/run.mjs [STEP …]`: runs the steps of steps.mjs, or the named ones, two at a time, and records each for summary.mjs. Called by
 * .ci/run, which has installed everything.
 *
 * CI_FULL=1: the full check, whatever is known of earlier runs. CI_BUDGET_SECONDS (4600), counted from CI_STARTED (seconds since 1970): no step
 * begins after it, and one that still runs at an eighth above it is ended; those left are failures. So there is always a summary.
 */

import { spawn, spawnSync } from 'node:child_process'
import { appendFileSync, createWriteStream, existsSync, mkdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { root } from '../repository.mjs'
import {
  decide,
  describeMachine,
  forgetGreen,
  keepGreen,
  keepPart,
  keepShard,
  partToRun,
  processorFlags,
  readInputs,
  uncoveredSources,
} from './evidence.mjs'
import { STEPS, TURNS } from './steps.mjs'
import { testsOf } from './tests-of.mjs'

const REPORTS = path.join(root, 'build/reports')
const WORKERS = 2
const LINES_OF_SUCCESS = 6
const LINES_OF_FAILURE = 300
/** The exit status of a step that succeeded, but whose row cannot say when it has to run again. */
const UNCOVERED_STATUS = 98

const full = process.env.CI_FULL === '1'
const budget = Number(process.env.CI_BUDGET_SECONDS ?? 4600)
const began = Number(process.env.CI_STARTED ?? Date.now() / 1000)
const elapsed = () => Date.now() / 1000 - began
const machine = describeMachine()
const flags = processorFlags()
const revision = spawnSync('git', ['rev-parse', '--short', 'HEAD'], {
  cwd: root,
  encoding: 'utf8',
}).stdout.trim()

const named = process.argv.slice(2)
const unknown = named.filter(name => !STEPS.some(step => step.name === name))
if (unknown.length > 0) {
  console.error(`no step is named ${unknown.join(', ')}: ${STEPS.map(step => step.name).join(', ')}`)
  process.exit(2)
}
mkdirSync(REPORTS, { recursive: true })

function record(step, status, seconds, remark = '') {
  const fields = [step.name, step.report, status, Math.round(seconds), remark]
  appendFileSync(path.join(REPORTS, 'steps.tsv'), `${fields.join('\t')}\n`)
}

function isMissing(program) {
  const places = [...(process.env.PATH ?? '').split(path.delimiter), '/usr/local/cuda/bin']
  return !places.some(place => existsSync(path.join(place, program)))
}

function commandOf(step, shard) {
  const command = (full && step.full) || step.command
  const vitest = [
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=build/reports/${step.name}.json`,
  ]
  const added = [
    ...(shard ? ['--shard', `${shard}/${step.shards}`] : []),
    ...(step.report === 'vitest' ? vitest : []),
  ]
  // npm keeps options before a "--" for itself.
  const separator = command[0] === 'npm' && added.length > 0 && !command.includes('--') ? ['--'] : []
  return [...command, ...separator, ...added]
}

/** Process groups that run, so that an end of this process is theirs. */
const running = new Set()
function endAll(signal) {
  for (const child of running) {
    try {
      process.kill(-child.pid, signal)
    } catch {}
  }
}
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    endAll('SIGKILL')
    process.exit(1)
  })
}

/** Runs a command into its log; its exit status, 124 where its time was over. */
function execute([command, ...args], log, isShown) {
  return new Promise(resolve => {
    const child = spawn(command, args, { cwd: root, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
    running.add(child)
    let isLate = false
    const end = setTimeout(
      () => {
        isLate = true
        endGroup(child)
      },
      Math.max(1, (budget * 9) / 8 - elapsed()) * 1000,
    )
    const file = createWriteStream(log)
    for (const stream of [child.stdout, child.stderr]) {
      stream.pipe(file, { end: false })
      if (isShown) stream.pipe(process.stdout, { end: false })
    }
    child.on('error', error => file.write(`${error.message}\n`))
    child.on('close', (status, signal) => {
      clearTimeout(end)
      running.delete(child)
      file.end(() => resolve(isLate ? 124 : (status ?? (signal ? 128 : 127))))
    })
  })
}
function endGroup(child) {
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch {}
}

async function run(step) {
  if (step.needs && isMissing(step.needs)) {
    console.log(`=== ${step.name}: not run, this machine has no ${step.needs}`)
    return record(step, 'missing', 0, step.needs)
  }
  if (!full && named.length === 0 && step.standsInFor?.every(flag => flags.has(flag))) {
    console.log(`=== ${step.name}: not needed, this processor has ${step.standsInFor.join(', ')}`)
    return record(step, 'not-needed', 0, step.standsInFor.join(', '))
  }
  const verdict = decide(step, { root, machine, full })
  if (!verdict.run) {
    console.log(`=== ${step.name}: green for these inputs at ${verdict.green.revision}`)
    return record(step, 'green', 0, JSON.stringify(verdict.green))
  }
  const turn = turnOf(step)
  if (turn && turn !== step.part) {
    console.log(`=== ${step.name}: not this time, it is the turn of ${turn}`)
    return record(step, 'turn', 0, turn)
  }
  const { shard, why, digests } = verdict
  const part = shard ? `shard ${shard} of ${step.shards}` : ''
  if (elapsed() >= budget) {
    console.log(`=== ${step.name}: NOT RUN, the budget of ${budget} s is used up`)
    return record(step, 'not-run', 0, part)
  }
  const command = commandOf(step, shard)
  console.log(`=== ${step.name} (${[part, why].filter(Boolean).join(', ')}): ${command.join(' ')}`)
  const start = Date.now()
  const log = path.join(REPORTS, `${step.name}.log`)
  const before = readInputs(step, root).tree
  let status = await execute(command, log, step.alone)
  const seconds = (Date.now() - start) / 1000
  const uncovered = status === 0 ? uncoveredSources(step, root) : []
  if (uncovered === undefined) {
    appendFileSync(log, '\nninja does not tell what was compiled, so no evidence is kept\n')
  } else if (uncovered.length > 0) {
    appendFileSync(
      log,
      `\nbuilt from what its row in tools/ci/steps.mjs takes out of its inputs: ${uncovered.join(' ')}\n`,
    )
    status = UNCOVERED_STATUS
  }
  record(step, status, seconds, [part, why].filter(Boolean).join(', '))

  const tests = testsOf(step.name, step.report, REPORTS)
  const isGreen = status === 0 && (step.report === 'none' || (tests?.passed > 0 && tests.failed === 0))
  if (isGreen && uncovered && before === readInputs(step, root).tree) {
    const date = new Date().toISOString()
    const facts = { step: step.name, revision, date, seconds, passed: tests?.passed ?? 0 }
    for (const digest of digests) keepGreen(digest, facts)
    if (shard) keepShard(step, shard)
    greenSteps.add(step)
  } else {
    for (const digest of digests) forgetGreen(digest)
  }
  const lines = step.alone ? [] : readFileSync(log, 'utf8').trimEnd().split('\n')
  const shown = lines.slice(-(isGreen ? LINES_OF_SUCCESS : LINES_OF_FAILURE))
  const result = isGreen ? 'ok' : `FAILED (${status})`
  // One write, so that the lines of two steps do not mix.
  console.log([...shown, `=== ${step.name}: ${result} after ${Math.round(seconds)} s`].join('\n'))
}

const wanted = STEPS.filter(step =>
  named.length > 0 ? named.includes(step.name) : full || step.only !== 'full',
)

/** The part that each group runs this time. Named steps and the full check take no turns. */
const groups = full || named.length > 0 ? [] : Object.entries(TURNS)
const parts = new Map(groups.map(group => [group, partToRun(group, wanted, { root, machine })]))
const greenSteps = new Set()
function turnOf({ part }) {
  for (const [[, names], chosen] of parts) if (names.includes(part)) return chosen
}

for (const step of wanted.filter(({ alone }) => alone)) await run(step)

const waiting = wanted.filter(({ alone }) => !alone)
const busyTrees = new Set()
const turns = []
const treesOf = ({ tree, otherTree }) => [tree, otherTree].filter(Boolean)

/** Takes the first step whose trees are free; waits for one to become so; undefined when nothing is left. */
async function next() {
  for (;;) {
    if (waiting.length === 0) return undefined
    const index = waiting.findIndex(step => !treesOf(step).some(tree => busyTrees.has(tree)))
    if (index >= 0) return waiting.splice(index, 1)[0]
    await new Promise(resolve => turns.push(resolve))
  }
}
async function work() {
  for (let step = await next(); step; step = await next()) {
    for (const tree of treesOf(step)) busyTrees.add(tree)
    await run(step)
    for (const tree of treesOf(step)) busyTrees.delete(tree)
    for (const resolve of turns.splice(0)) resolve()
  }
}
await Promise.all(Array.from({ length: WORKERS }, work))
for (const [group, part] of parts) {
  const ran = wanted.filter(step => part !== undefined && step.part === part)
  if (ran.length > 0 && ran.every(step => greenSteps.has(step) || !decide(step, { root, machine }).run)) {
    keepPart(group, part)
  }
}
