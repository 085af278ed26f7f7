/**
 * Records the routing of held-out text as a trace: which experts each token met in every sparse layer, and with what weights.
 *
 *   npm run tiny:trace -- [--windows N] [--device D] [--out DIRECTORY]
 *
 * Every window of 256 tokens is a text of its own, and a call of each layer, so that consecutive tokens are a real sequence.
 */

import { rm } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { type DeviceOption, fromFloat32 } from 'sparse-experts'
import { formatBytes, formatCount } from '../../lib/cli/format.js'
import { traceLayer } from '../../lib/trace/describe-layer.js'
import { TraceWriter } from '../../lib/trace/writer.js'
import { Decoder, heldOutLoss } from './decoder/index.js'
import { MODEL_DIRECTORY, readHeldOut, TRACE_DIRECTORY } from './files.js'

const { values } = parseArgs({
  options: {
    windows: { type: 'string', default: '16' },
    device: { type: 'string', default: 'auto' },
    out: { type: 'string', default: TRACE_DIRECTORY },
  },
})

using decoder = await Decoder.load(MODEL_DIRECTORY, { device: values.device as DeviceOption })
const layers = decoder.sparseLayers.map(layer => {
  const { config, dtype, weightFormat } = decoder.feedForwards[layer]!
  return traceLayer(layer, config, dtype, weightFormat)
})
const { routing, numTokens, loss } = await heldOutLoss(decoder, await readHeldOut(), Number(values.windows))
await rm(values.out, { recursive: true, force: true })
const writer = new TraceWriter(values.out, layers, { withWeights: true })
for (const [window, ofLayers] of routing.entries())
  for (const [index, { topkIds, topkWeights }] of ofLayers.entries()) {
    const weights = fromFloat32(topkWeights, 'f16') as Uint16Array
    // The number of the window stands for its time: a clock would change the file with every recording.
    writer.add({ index, topkIds, topkWeights: weights, micros: window, isJoined: false })
  }
await writer.end()
process.stdout.write(
  `${values.out}: ${formatCount(numTokens)} tokens, ${layers.length} layers, ${formatBytes(writer.bytes)}; ` +
    `held-out loss ${loss.toFixed(4)}\n`,
)
