/**
 * Loads and forwards whose signals fire at random moments: `node aborts.js <cases> <seed> [device]`. Each ends with the signal's reason or with
 * the right result, and leaves nothing behind.
 */

import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { MoeLayer, setLogger } from 'sparse-experts'
import { Random } from '../cases/random.js'
import { goldenCases } from '../golden/cases.js'
import { smallLayer } from './small-layer.js'
import { watchCases } from './watch-cases.js'

const [numCases = '200', seed = '1', device = 'auto'] = process.argv.slice(2)
const random = new Random(Number(seed))
const checkpoints = goldenCases()
const hiddenSize = 64
const { config, weights } = smallLayer({ hiddenSize, intermediateSize: 96, numExperts: 8 }, (rows, cols) =>
  random.normals(rows * cols, 0.1),
)

/** At once, after some turns of the loop, or after some time. */
async function someTime(): Promise<void> {
  const turns = random.integer(6)
  for (let turn = 0; turn < turns; turn++) await nextTurn()
  if (random.integer(3) === 0) await sleep(random.integer(4))
}

/** Runs `body` with a signal that fires at some time: its result, or undefined where the signal's reason came out. */
async function interrupted<Result>(
  body: (signal: AbortSignal) => Promise<Result>,
): Promise<Result | undefined> {
  const abort = new AbortController()
  const reason = { reason: random.bits() }
  const running = body(abort.signal).catch((error: unknown) => {
    if (error !== reason) throw error
    return undefined
  })
  await someTime()
  abort.abort(reason)
  return running
}

async function abortLoad(): Promise<void> {
  const { directory, expected } = checkpoints[random.integer(checkpoints.length)]!
  const options = { layer: expected.layer, module: expected.module, device: device as 'auto' }
  const loaded = await interrupted(signal => MoeLayer.load(directory, { ...options, signal }))
  loaded?.dispose()
}

function same(a: Float32Array, b: Float32Array): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i])
}

setLogger(null)
const layer = MoeLayer.create(config, weights, { device: device as 'auto' })
const rows = [1, 40, 6000].map(numTokens => {
  const hidden = random.normals(numTokens * hiddenSize)
  return { hidden, expected: layer.forwardSync(hidden).output }
})

async function abortForwards(): Promise<void> {
  const calls = Array.from({ length: 1 + random.integer(4) }, async () => {
    const { hidden, expected } = rows[random.integer(rows.length)]!
    const output = random.integer(2) === 0 ? new Float32Array(hidden.length) : undefined
    const result = await interrupted(signal => layer.forward(hidden, { output, signal }))
    if (result && !same(result.output, expected)) throw new Error('A call that was not aborted is wrong')
  })
  await Promise.all(calls)
  const { queueDepth, queuedTokens } = layer.stats()
  if (queueDepth !== 0 || queuedTokens !== 0) throw new Error('An aborted call stays in the queue')
  const { hidden, expected } = rows[1]!
  if (!same((await layer.forward(hidden)).output, expected)) throw new Error('The next call is wrong')
}

// A case takes some thousandths of a second.
const begin = watchCases({ seconds: 60, mebibytes: 1024 })
for (let i = 0; i < Number(numCases); i++) {
  const isLoad = random.integer(2) === 0
  begin({ case: i, seed, isLoad })
  await (isLoad ? abortLoad() : abortForwards())
}
layer.dispose()
console.log(`${numCases} aborts`)
