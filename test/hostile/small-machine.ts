/**
 * A machine that refuses memory: `node small-machine.js`. What needs more than it gives ends with ERR_MOE_OUT_OF_MEMORY, and the process goes on.
 * The limit is on address space, so nothing of it is ever touched; the check of free memory at the beginning of a load is not what is met here.
 */

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fromFloat32, MoeLayer, reference, setLogger, stages, Tensor, toFloat32 } from 'sparse-experts'
import { smallLayer } from './small-layer.js'

/** What is left for the engine and its threads, and what is asked for. */
const [LEFT, ASKED] = [512 * 2 ** 20, 1024 * 2 ** 20]
const [hiddenSize, numExperts] = [64, 4]
const numTokens = ASKED / (4 * hiddenSize)

setLogger(null)
const matrix = (rows: number, cols: number) => new Float32Array(rows * cols).fill(0.01)
const { config, weights } = smallLayer({ hiddenSize, intermediateSize: 32, numExperts }, matrix)
const layers = (['auto', 'reference'] as const).map(device => MoeLayer.create(config, weights, { device }))
const few = new Float32Array(4 * hiddenSize).fill(0.5)
for (const layer of layers) await layer.forward(few)
// Pages of zeros, which nobody touches: the inputs of calls whose outputs there is no room for.
const hidden = new Float32Array(numTokens * hiddenSize)
const bits = new Uint16Array(ASKED / 2)
const ids = new Int32Array(ASKED / 4)
const tensor = Tensor.from(few, [4, hiddenSize])

const bytes = Number(/VmSize:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024
const { status } = spawnSync('prlimit', [`--pid=${process.pid}`, `--as=${bytes + LEFT}`], {
  stdio: 'inherit',
})
if (status !== 0) throw new Error('prlimit (util-linux) is needed')

const wide = { ...config, numExperts: 1, topK: 1, hiddenSize: 2 ** 14, intermediateSize: 2 ** 14 }
const one = matrix(1, 1)
/** A matrix of 2^28 values, all of them the same one. */
const strided = { data: one, strides: [0, 0] as const }
const wideWeights = {
  router: { weight: matrix(1, wide.hiddenSize) },
  experts: [{ gate: strided, up: strided, down: strided }],
}
const CALLS: Record<string, () => unknown> = {
  'a layer': () => MoeLayer.create(wide, wideWeights),
  'a layer of the reference': () => MoeLayer.create(wide, wideWeights, { device: 'reference' }),
  'a forward': () => layers[0]!.forward(hidden),
  'a forward of the reference': () => layers[1]!.forward(hidden),
  'a synchronous forward': () => layers[0]!.forwardSync(hidden),
  'a tensor': () => Tensor.from(hidden, [numTokens, hiddenSize]),
  'wider numbers': () => toFloat32(bits, 'bf16'),
  'narrower numbers': () => fromFloat32(hidden, 'bf16'),
  'reference.dispatch': () => reference.dispatch(ids, numExperts),
}
const outcomes: Record<string, string> = {}
for (const [name, call] of Object.entries(CALLS)) {
  outcomes[name] = await Promise.resolve()
    .then(call)
    .then(
      () => 'done',
      (error: { code?: string; stack?: string }) => error.code ?? error.stack ?? String(error),
    )
}
for (const layer of layers) await layer.forward(few)
stages.gate(tensor, Tensor.from(few, [4, hiddenSize]))
console.log(JSON.stringify(outcomes))
