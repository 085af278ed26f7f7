/**
 * `npm run test:hostile [-- --times 1] [-- --seed 1 | random] [-- --only NAME]`: attacks in processes of their own (test/hostile). Each must end
 * by itself, within limits on time and memory, with every error a coded one. `--times 20` runs twenty times as many cases.
 */

import { spawn } from 'node:child_process'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { buildPrograms } from '../build/steps.mjs'
import { root } from '../repository.mjs'

const PROGRAMS = path.join(root, 'build/programs/test')
/** Of a whole process, for each time: most take some seconds. Its cases have limits of their own (test/hostile/watch-cases.ts). */
const PATIENCE_MS = 300_000
/** From the moment at which a process means to end; tenths of a second on an idle machine, five seconds where a call does not stop. */
const END_MS = 60_000

const { values } = parseArgs({
  options: {
    times: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string' },
  },
})
const times = Number(values.times)
const firstSeed = values.seed === 'random' ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed)
if (!Number.isInteger(times) || times < 1) throw new Error(`--times ${values.times} is no number of times`)
if (!Number.isInteger(firstSeed)) throw new Error(`--seed ${values.seed} is neither a number nor random`)

/** name; program below build/programs/test; its arguments; how often it is started. */
const ATTACKS = [
  ...['config', 'index', 'header', 'gguf'].map(target => ({
    name: `damaged ${target}`,
    program: 'hostile/damaged-files.js',
    args: seed => [target, 200 * times, seed],
  })),
  { name: 'wrong calls', program: 'hostile/wrong-calls.js', args: seed => [2000 * times, seed] },
  {
    name: 'stolen buffers',
    program: 'devices/fixtures/stolen-buffers.js',
    args: seed => ['auto', 10 * times, seed],
    check: ({ numWrong }) => numWrong === 0,
  },
  { name: 'aborts', program: 'hostile/aborts.js', args: seed => [100 * times, seed] },
  // Limits of address space, and figures of /proc, are Linux's.
  ...(process.platform === 'linux'
    ? [
        {
          name: 'small machine',
          program: 'hostile/small-machine.js',
          args: () => [],
          check: outcomes => Object.values(outcomes).every(outcome => outcome === 'ERR_MOE_OUT_OF_MEMORY'),
        },
      ]
    : []),
  {
    name: 'sudden ends',
    program: 'hostile/sudden-end.js',
    args: seed => [seed],
    starts: 5 * times,
    ends: true,
  },
]

/** Runs a program: what it said, and what is wrong with how it ended, if anything is. */
function run({ program, args, check, ends }, seed) {
  return new Promise(resolve => {
    const command = ['--max-old-space-size=1024', path.join(PROGRAMS, program), ...args(seed).map(String)]
    const child = spawn(process.execPath, command, {
      cwd: root,
      env: { ...process.env, NO_COLOR: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    let late = false
    const kill = () => {
      late = true
      child.kill('SIGKILL')
    }
    let timer = setTimeout(kill, PATIENCE_MS * times)
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', text => {
        output += text
        if (!ends || !text.includes('ending')) return
        clearTimeout(timer)
        timer = setTimeout(kill, END_MS)
      })
    }
    child.on('close', (status, signal) => {
      clearTimeout(timer)
      const due = ends ? Number(/^ending (\d+)$/m.exec(output)?.[1]) : 0
      let problem
      if (late) problem = 'it does not end'
      else if (signal) problem = `it was ended by ${signal}`
      else if (status !== due) problem = `it ended with status ${status}, not ${due}`
      else if (check && !check(JSON.parse(output))) problem = 'its results are wrong'
      resolve({ problem, output: output.trim(), command: command.slice(1).join(' ') })
    })
  })
}

if (!buildPrograms()) process.exit(1)
let [passed, failed] = [0, 0]
for (const attack of ATTACKS.filter(({ name }) => !values.only || name.includes(values.only))) {
  const began = performance.now()
  let last = ''
  for (let start = 0; start < (attack.starts ?? 1); start++) {
    const { problem, output, command } = await run(attack, firstSeed + start)
    last = output
    if (!problem) passed++
    else {
      failed++
      console.log(`${attack.name}: ${problem}\n  node ${path.relative(root, command)}\n${output}`)
    }
  }
  const seconds = ((performance.now() - began) / 1000).toFixed(1)
  console.log(`${attack.name}: ${attack.ends ? `${attack.starts} processes` : last}, ${seconds} s`)
}
console.log(`seed ${firstSeed}: ${passed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
