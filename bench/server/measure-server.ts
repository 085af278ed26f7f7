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
import type { DType } from '../harness/package.js'
import { median } from '../harness/rounds.js'
import { BENCH_SHAPES, type BenchShape } from '../harness/shapes.js'
import { MODES, type Mode } from './modes.js'

const USAGE = `npm run bench:server -- [options]: requests a second of a server, and their latency
  --filter A,B    shapes whose name contains one of these words (default: small,OLMoE)
  --dtype A,B     f32, bf16, f16 (default: bf16)
  --clients A,B   connections that ask at once (default: 50)
  --rounds N      (default: 5)
  --seconds N     of each server in a round (default: 4)
  --quick         a round of a second on the small shape: is it alive?`

/** Different rows, so that requests reach different experts. */
const NUM_BODIES = 64
const SHAPES = BENCH_SHAPES.filter(shape => shape.expertsOfAllRanks === undefined)

function parseServerOptions(args: readonly string[]) {
  const values = parseValues(args, ['filter', 'dtype', 'clients', 'rounds', 'seconds'])
  const { quick } = values
  const names = SHAPES.map(({ name }) => name)
  const chosen = matching(values.filter ?? (quick ? 'small' : 'small,OLMoE'), names)
  return {
    shapes: SHAPES.filter(({ name }) => chosen.includes(name)),
    dtypes: words('dtype', values.dtype, DTYPES) ?? ['bf16' as const],
    clients: numbers('clients', values.clients, 1) ?? [50],
    rounds: numbers('rounds', values.rounds, 1)?.[0] ?? (quick ? 1 : 5),
    seconds: numbers('seconds', values.seconds, 1)?.[0] ?? (quick ? 1 : 4),
  }
}

type ServerOptions = ReturnType<typeof parseServerOptions>

interface Figures {
  requestsPerSecond: number
  p50Ms: number
  p99Ms: number
  /** Rows of a forward, each a request. */
  rowsPerForward: number
}

async function main(options: ServerOptions): Promise<void> {
  const { cpu, cores } = environment()
  console.log(`${cpu}, ${cores} threads, shared by clients and server; one row of a request`)
  for (const shape of options.shapes)
    for (const dtype of options.dtypes)
      for (const clients of options.clients) await measure(shape, dtype, clients, options)
}

async function measure(
  shape: BenchShape,
  dtype: DType,
  clients: number,
  options: ServerOptions,
): Promise<void> {
  const rounds = new Map<Mode, Figures[]>(MODES.map(mode => [mode, []]))
  for (let round = 0; round < options.rounds; round++) {
    for (const mode of round % 2 === 0 ? MODES : MODES.toReversed()) {
      rounds.get(mode)!.push(await measureServer(shape, dtype, mode, clients, options.seconds))
    }
  }
  const ratio = (mode: Mode, figure: (of: Figures) => number) =>
    `${formatNumber(median(rounds.get(mode)!.map((of, i) => figure(of) / figure(rounds.get('alone')![i]!))))}×`
  const rows = MODES.map(mode => {
    const middle = (figure: (of: Figures) => number) => median(rounds.get(mode)!.map(figure))
    return [
      `calls ${mode}`,
      formatNumber(middle(of => of.requestsPerSecond)),
      ratio(mode, of => of.requestsPerSecond),
      formatDuration(middle(of => of.p50Ms)),
      formatDuration(middle(of => of.p99Ms)),
      ratio(mode, of => of.p99Ms),
      formatNumber(middle(of => of.rowsPerForward)),
    ]
  })
  console.log(`\n${shape.name} ${dtype}, ${clients} clients, ${options.rounds} rounds`)
  const head = ['', 'requests/s', '', 'p50', 'p99', '', 'rows a forward']
  for (const line of table([head, ...rows], 'lrrrrrr')) console.log(line)
}

async function measureServer(
  shape: BenchShape,
  dtype: DType,
  mode: Mode,
  clients: number,
  seconds: number,
): Promise<Figures> {
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
    const result = await ask(seconds)
    if (result.errors > 0 || result.non2xx > 0)
      throw new Error(`${result.errors} requests failed, ${result.non2xx} were refused`)
    const stats = (await (await fetch(`${url}/stats`)).json()) as { tokens: number; batches: number }
    return {
      requestsPerSecond: result.requests.average,
      p50Ms: result.latency.p50,
      p99Ms: result.latency.p99,
      rowsPerForward: stats.tokens / stats.batches,
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
