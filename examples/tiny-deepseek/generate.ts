/**
 * Writes on from a prompt with the trained model: text to stdout as it comes, figures to stderr.
 *
 *   npm run tiny:generate -- [--prompt TEXT] [--max-tokens N] [--temperature T] [--top-p P] [--seed N]
 *                            [--experts N] [--expert-top-p P] [--device D] [--dtype auto|f32|f16|bf16] [--model DIR]
 *
 * --experts and --expert-top-p set the compute budget of the sparse layers: fewer experts per token than trained.
 */

import { parseArgs } from 'node:util'
import { type DeviceOption, type DType, setLogger } from 'sparse-experts'
import { formatBytes, formatDuration, formatFlops, makePaint } from '../../lib/cli/format.js'
import { type ComputeBudget, Decoder } from './decoder/decoder.js'
import { generate } from './decoder/generation.js'
import { encodeText, TextStream } from './decoder/text.js'
import { MODEL_DIRECTORY } from './files.js'

const { values } = parseArgs({
  options: {
    prompt: { type: 'string', default: 'And it came to pass ' },
    'max-tokens': { type: 'string', default: '400' },
    temperature: { type: 'string', default: '0.7' },
    'top-p': { type: 'string', default: '0.95' },
    seed: { type: 'string', default: '1' },
    experts: { type: 'string' },
    'expert-top-p': { type: 'string' },
    device: { type: 'string', default: 'auto' },
    dtype: { type: 'string', default: 'auto' },
    model: { type: 'string', default: MODEL_DIRECTORY },
  },
})

function number(name: keyof typeof values): number {
  const value = Number(values[name])
  if (!Number.isFinite(value)) throw new RangeError(`--${name} ${values[name]} is not a number`)
  return value
}

const computeBudget: ComputeBudget = {
  ...(values.experts !== undefined && { topK: number('experts') }),
  ...(values['expert-top-p'] !== undefined && { topP: number('expert-top-p') }),
}
const paint = makePaint(process.stderr)
setLogger(null)
const interrupted = new AbortController()
process.once('SIGINT', () => interrupted.abort())

using decoder = await Decoder.load(values.model, {
  device: values.device as DeviceOption,
  dtype: values.dtype as 'auto' | DType,
})
process.stdout.write(values.prompt)
const stream = new TextStream()
const began = performance.now()
let [count, feedForwardMs, flops, denseFlops, weightBytes, denseWeightBytes] = [0, 0, 0, 0, 0, 0]
try {
  const options = {
    maxTokens: number('max-tokens'),
    temperature: number('temperature'),
    topP: number('top-p'),
    seed: number('seed'),
    computeBudget,
    signal: interrupted.signal,
  }
  for await (const { token, result } of generate(decoder, encodeText(values.prompt), options)) {
    process.stdout.write(stream.push(token))
    count++
    feedForwardMs += result.feedForwardMs
    for (const { work } of result.routing) {
      flops += work.flops
      denseFlops += work.denseFlops
      weightBytes += work.weightBytes
      denseWeightBytes += work.denseWeightBytes
    }
  }
} catch (error) {
  if (!interrupted.signal.aborted) throw error
  process.exitCode = 130
}
process.stdout.write(`${stream.end()}\n`)
const ms = performance.now() - began
process.stderr.write(
  paint.dim(
    `\n${count} bytes in ${formatDuration(ms)} (${Math.round((1000 * count) / ms)} per second; ` +
      `feed-forwards ${formatDuration(feedForwardMs)}) on ${decoder.device}, ${decoder.dtype}\n` +
      `sparse layers: ${formatFlops(flops)} of ${formatFlops(denseFlops)}, ` +
      `${formatBytes(weightBytes)} of ${formatBytes(denseWeightBytes)} of weights read\n`,
  ),
)
