/**
 * `npm run bench:parallel`: what it takes two processes of this machine to send each other a message, both at once: over UCX, as ranks do
 * that share the experts of a layer, and over node:net beside it. Turns alternate; a figure is the median of the turns' medians, with the
 * least and the largest of them.
 */

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { formatDuration } from '../../lib/cli/format.js'
import { numbers, parseValues, runCommand } from '../harness/command-line.js'
import { buildProgram } from '../harness/native-program.js'
import { median } from '../harness/rounds.js'

const USAGE = `npm run bench:parallel -- [options]: messages between two processes
  --bytes A,B     lengths of messages (default: 1024,65536,4194304)
  --turns N       (default: 7)
  --times N       messages each way in a turn (default: 200)
  --quick         few of them: is it alive?`

/** Without them libucp is not opened (csrc/transport/ucx.h). */
const UCX_SETTINGS = { UCX_HANDLE_ERRORS: 'none', UCX_MEM_EVENTS: 'n' }

class Process {
  readonly #child: ChildProcessWithoutNullStreams
  readonly #lines: AsyncIterator<string>

  constructor(command: string, args: readonly string[]) {
    this.#child = spawn(command, args, { env: { ...process.env, ...UCX_SETTINGS } })
    this.#child.stderr.pipe(process.stderr)
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]()
  }

  write(line: string): void {
    this.#child.stdin.write(`${line}\n`)
  }

  /** @throws where it has ended */
  async line(): Promise<string> {
    const { value, done } = await this.#lines.next()
    if (done) throw new Error(`${this.#child.spawnargs.join(' ')} has ended`)
    return value
  }

  end(): void {
    this.#child.stdin.end()
  }
}

/** Two processes that know each other. */
class Pair {
  private constructor(private readonly processes: readonly [Process, Process]) {}

  static async open(command: string, args: readonly string[]): Promise<Pair> {
    const first = new Process(command, [...args, '0'])
    const second = new Process(command, [...args, '1'])
    const addresses = [await first.line(), await second.line()] as const
    first.write(addresses[1])
    second.write(addresses[0])
    return new Pair([first, second])
  }

  /** Milliseconds of an exchange: the median of `times`. */
  async time(bytes: number, times: number): Promise<number> {
    for (const one of this.processes) one.write(`${bytes} ${times}`)
    const measured = (await this.processes[0].line()).trim().split(' ').map(Number)
    return median(measured) / 1000
  }

  close(): void {
    for (const one of this.processes) one.end()
  }
}

function parseExchangeOptions(args: readonly string[]) {
  const values = parseValues(args, ['bytes', 'turns', 'times'])
  return {
    bytes: numbers('bytes', values.bytes, 1) ?? [1024, 65536, 4194304],
    turns: numbers('turns', values.turns, 1)?.[0] ?? (values.quick ? 1 : 7),
    times: numbers('times', values.times, 1)?.[0] ?? (values.quick ? 20 : 200),
  }
}

async function main({ bytes, turns, times }: ReturnType<typeof parseExchangeOptions>): Promise<void> {
  const netRank = path.join(import.meta.dirname, 'net-rank.ts')
  const pairs = [
    { name: 'UCX', pair: await Pair.open(buildProgram('rank_exchange'), []) },
    { name: 'node:net', pair: await Pair.open(process.execPath, ['--import', 'tsx', netRank]) },
  ]
  for (const length of bytes) {
    const medians = pairs.map(() => [] as number[])
    for (const { pair } of pairs) await pair.time(length, 10)
    for (let turn = 0; turn < turns; turn++) {
      for (const [index, { pair }] of pairs.entries()) medians[index]!.push(await pair.time(length, times))
    }
    for (const [index, { name }] of pairs.entries()) {
      const all = medians[index]!
      const spread = `${formatDuration(Math.min(...all))} to ${formatDuration(Math.max(...all))}`
      console.log(`${length} bytes each way, ${name}: ${formatDuration(median(all))} (${spread})`)
    }
  }
  for (const { pair } of pairs) pair.close()
}

await runCommand(USAGE, args => main(parseExchangeOptions(args)))
