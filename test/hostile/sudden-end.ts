/**
 * Starts loads and forwards, and ends in the middle of them: `node sudden-end.js <seed>`. The seed decides which run, on which threads, and how
 * and when the process ends. Writes 'ending' with the status that is due just before, and nothing after.
 */

import { writeSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { MoeLayer, setLogger } from 'sparse-experts'
import { Random } from '../cases/random.js'

const random = new Random(isMainThread ? Number(process.argv[2] ?? 1) : (workerData as number))
const DIRECTORY = path.join(import.meta.dirname, '../golden/cases/deepseek_v3_fp8')
/** A call takes some tenths of a second on two cores. */
const [hiddenSize, intermediateSize, numExperts, topK, numTokens] = [256, 1024, 4, 4, 2500]

function makeLayer(): MoeLayer {
  const matrix = (rows: number, cols: number) => new Float32Array(rows * cols).fill(0.01)
  return MoeLayer.create(
    { scoringFunc: 'softmax', normTopkProb: true, hiddenSize, intermediateSize, numExperts, topK },
    {
      router: { weight: matrix(numExperts, hiddenSize) },
      experts: Array.from({ length: numExperts }, () => ({
        gate: matrix(intermediateSize, hiddenSize),
        up: matrix(intermediateSize, hiddenSize),
        down: matrix(hiddenSize, intermediateSize),
      })),
    },
  )
}

/** What a thread is busy with when it ends. */
const ACTIVITIES: (() => Promise<void>)[] = [
  async () => {
    for (;;) (await MoeLayer.load(DIRECTORY)).dispose()
  },
  async () => {
    const layer = makeLayer()
    const hidden = new Float32Array(numTokens * hiddenSize).fill(0.5)
    for (;;) await Promise.all(Array.from({ length: 4 }, () => layer.forward(hidden)))
  },
  async () => {
    const layer = makeLayer()
    const hidden = new Float32Array(numTokens * hiddenSize).fill(0.5)
    const output = new Float32Array(hidden.length)
    for (;;) {
      await layer.forward(hidden, { output })
      structuredClone(hidden.slice().buffer)
    }
  },
]
/** Of threads whose event loop nobody needs. */
const SYNCHRONOUS = async () => {
  const layer = makeLayer()
  const hidden = new Float32Array(numTokens * hiddenSize).fill(0.5)
  for (;;) layer.forwardSync(hidden)
}

const pick = <Item>(items: readonly Item[]): Item => items[random.integer(items.length)]!

setLogger(null)
if (!isMainThread) {
  parentPort!.postMessage('started')
  await pick([...ACTIVITIES, SYNCHRONOUS, SYNCHRONOUS])()
}

const workers = Array.from(
  { length: random.integer(3) },
  () => new Worker(process.argv[1]!, { workerData: random.bits() }),
)
await Promise.all(workers.map(worker => new Promise(resolve => worker.once('message', resolve))))
if (workers.length === 0 || random.integer(2) === 0) void pick(ACTIVITIES)()
await sleep(random.integer(150))
const ending = (status: number) => writeSync(1, `ending ${status}\n`)
/** @satisfies each ends the process */
const ENDS: (() => unknown)[] = [
  () => {
    ending(7)
    process.exit(7)
  },
  () => {
    ending(1)
    throw new Error('on purpose')
  },
  async () => {
    ending(7)
    await Promise.all(workers.map(worker => worker.terminate()))
    process.exit(7)
  },
]
await pick(ENDS)()
