/**
 * `npm run bench:server`: requests of one row each, from many clients at once, to an HTTP server around one layer: each call run alone, put
 * together by code of the server, and put together by the layer. Rounds go through the three in turn, so that whatever else happens on the
 * machine happens to all; a figure is the median of the rounds, a ratio the median of the rounds' ratios. Clients and server share the machine.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { createInterface } from 'node:readline'
import autocannon from 'autocannon'
import { formatDuration, formatNumber, table } from '../../lib/cli/format.js'
import { Random } from '../../test/cases/random.js'
import { DTYPES, matching, numbers, parseValues, runCommand, words } from '../harness/command-line.js'
import { randomHidden } from '../harness/inputs.js'
import { environment } from '../harness/machine.js'
import { processCpuMs, watchLoad } from '../harness/other-load.js'
import type { DType } from '../harness/package.js'
import { revision, writeResults } from '../harness/results.js'
import { BENCH_SHAPES, type BenchShape } from '../harness/shapes.js'
import { MODES, type Mode } from './modes.js'
import {
  caseText,
  type ServerFigures,
  type ServerResults,
  type ServerRow,
  summarise,
} from './server-results.js'

const USAGE = `npm run bench:server -- [options]: requests a second of a server, and their latency
  --filter A,B    shapes whose name contains one of these words (default: small,OLMoE)
  --dtype A,B     f32, bf16, f16 (default: bf16)
  --clients A,B   connections that ask at once (default: 50)
  --rounds N      (default: 5)
  --seconds N     of each server in a round (default: 4)
  --json FILE     writes the results; 'npm run bench:report' draws the newest of bench/results/server
  --quick         a round of a second on the small shape: is it alive?`

/** Different rows, so that requests reach different experts. */
const NUM_BODIES = 64
const SHAPES = BENCH_SHAPES.filter(shape => shape.expertsOfAllRanks === undefined)

function parseServerOptions(args: readonly string[]) {
  const values = parseValues(args, ['filter', 'dtype', 'clients', 'rounds', 'seconds', 'json'])
  const { quick, json } = values
  const names = SHAPES.map(({ name }) => name)
  const chosen = matching(values.filter ?? (quick ? 'small' : 'small,OLMoE'), names)
  return {
    shapes: SHAPES.filter(({ name }) => chosen.includes(name)),
    dtypes: words('dtype', values.dtype, DTYPES) ?? ['bf16' as const],
    clients: numbers('clients', values.clients, 1) ?? [50],
    rounds: numbers('rounds', values.rounds, 1)?.[0] ?? (quick ? 1 : 5),
    seconds: numbers('seconds', values.seconds, 1)?.[0] ?? (quick ? 1 : 4),
    json,
  }
}

type ServerOptions = ReturnType<typeof parseServerOptions>

async function main(options: ServerOptions): Promise<void> {
  const machine = environment()
  console.log(`${machine.cpu}, ${machine.cores} threads, shared by clients and server; one row of a request`)
  const rows: ServerRow[] = []
  for (const shape of options.shapes)
    for (const dtype of options.dtypes)
      for (const clients of options.clients) rows.push(...(await measure(shape, dtype, clients, options)))
  if (!options.json) return
  const results: ServerResults = {
    ...{ benchmark: 'sparse-experts server', date: new Date().toISOString(), revision: revision() },
    ...{ environment: machine, rounds: options.rounds, seconds: options.seconds, rows },
  }
  writeResults(options.json, results)
}

async function measure(
  shape: BenchShape,
  dtype: DType,
  clients: number,
  options: ServerOptions,
): Promise<ServerRow[]> {
  const rounds = new Map<Mode, ServerFigures[]>(MODES.map(mode => [mode, []]))
  for (let round = 0; round < options.rounds; round++) {
    for (const mode of round % 2 === 0 ? MODES : MODES.toReversed()) {
      rounds.get(mode)!.push(await measureServer(shape, dtype, mode, clients, options.seconds))
    }
  }
  const rows = summarise({ shape: shape.name, dtype, clients }, rounds)
  console.log(`\n${caseText(rows[0]!)}, ${options.rounds} rounds`)
  const lines = rows.map(row => [
    `calls ${row.mode}`,
    formatNumber(row.requestsPerSecond),
    `${formatNumber(row.requestsRatio.median)}×`,
    formatDuration(row.p50Ms),
    formatDuration(row.p99Ms),
    `${formatNumber(row.p99Ratio.median)}×`,
    formatNumber(row.rowsPerForward),
  ])
  const head = ['', 'requests/s', '', 'p50', 'p99', '', 'rows a forward']
  for (const line of table([head, ...lines], 'lrrrrrr')) console.log(line)
  const disturbed = rows.filter(row => row.disturbed)
  if (disturbed.length > 0) console.log(`other load was there: ${disturbed.map(row => row.mode).join(', ')}`)
  return rows
}

async function measureServer(
  shape: BenchShape,
  dtype: DType,
  mode: Mode,
  clients: number,
  seconds: number,
): Promise<ServerFigures> {
  const program = path.join(import.meta.dirname, 'serve-rows.ts')
  const server = spawn(process.execPath, ['--import', 'tsx', program, shape.name, dtype, mode], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    const url = `http://127.0.0.1:${await portOf(server)}`
    const { hiddenSize } = shape.config
    const hidden = randomHidden(new Random(3), NUM_BODIES, hiddenSize)
    const requests = Array.from({ length: NUM_BODIES }, (_, i) => {
      const row = hidden.slice(i * hiddenSize, (i + 1) * hiddenSize)
      return { body: Buffer.from(row.buffer) }
    })
    const headers = { 'content-type': 'application/octet-stream' }
    const ask = (duration: number) =>
      autocannon({ url, connections: clients, duration, method: 'POST', headers, requests })
    await ask(1)
    const watch = watchLoad(() => processCpuMs(server.pid!))
    const result = await ask(seconds)
    const foreignCores = watch.stop()
    if (result.errors > 0 || result.non2xx > 0)
      throw new Error(`${result.errors} requests failed, ${result.non2xx} were refused`)
    const stats = (await (await fetch(`${url}/stats`)).json()) as { tokens: number; batches: number }
    return {
      requestsPerSecond: result.requests.average,
      p50Ms: result.latency.p50,
      p99Ms: result.latency.p99,
      rowsPerForward: stats.tokens / stats.batches,
      foreignCores,
    }
  } finally {
    const ended = once(server, 'exit')
    server.kill('SIGKILL')
    await ended
  }
}

async function portOf(server: ChildProcess): Promise<number> {
  const ended = once(server, 'exit').then(([status]) => {
    throw new Error(`The server ended with status ${status} before it listened`)
  })
  const lines = createInterface(server.stdout!)
  const [line] = (await Promise.race([once(lines, 'line'), ended])) as [string]
  return Number(line)
}

await runCommand(USAGE, args => main(parseServerOptions(args)))
