/** Usage: tsx examples/worker-pool/main.ts <checkpoint> [device]. Two workers share eight batches. */

import { availableParallelism } from 'node:os'
import type { DeviceOption } from 'sparse-experts'
import { LayerPool, type WorkerStart } from './pool.js'

const NUM_WORKERS = 2
const NUM_BATCHES = 8
const TOKENS_PER_BATCH = 32

const [checkpoint, device = 'auto'] = process.argv.slice(2) as [string?, DeviceOption?]
if (!checkpoint) {
  console.error('Usage: tsx examples/worker-pool/main.ts <checkpoint> [device]')
  process.exit(2)
}
const threads = Math.max(1, Math.floor(availableParallelism() / NUM_WORKERS))
const pool = new LayerPool(
  Array.from({ length: NUM_WORKERS }, (): WorkerStart => ({ checkpoint, device, threads })),
)
const [first] = await pool.ready()
const { hiddenSize } = first!
console.log(`${NUM_WORKERS} workers with ${threads} threads each on ${first!.device}`)

const began = performance.now()
const batches = Array.from({ length: NUM_BATCHES }, () =>
  Float32Array.from({ length: TOKENS_PER_BATCH * hiddenSize }, () => Math.random() - 0.5),
)
const answers = await Promise.all(batches.map(batch => pool.forward(batch)))
const seconds = (performance.now() - began) / 1000
const tokens = answers.reduce((sum, answer) => sum + answer.output.length / hiddenSize, 0)
console.log(`${NUM_BATCHES} batches, ${tokens} tokens, ${Math.round(tokens / seconds)} tokens/s`)
await pool.close()
