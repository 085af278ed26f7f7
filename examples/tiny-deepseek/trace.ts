/**
 * Records the routing of held-out text: which experts each token met in every sparse layer, and with what weights.
 *
 *   npm run tiny:trace -- [--windows N] [--device D] [--out FILE]
 *
 * The file is a safetensors file with `layers.N.topk_ids` (U8) and `layers.N.topk_weights` (F16), `[numTokens, topK]` each. Every window
 * of 256 tokens is a text of its own, so that consecutive tokens are a real sequence.
 */

import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { type DeviceOption, fromFloat32 } from 'sparse-experts'
import { writeSafetensors } from '../../lib/checkpoint/writer.js'
import { formatBytes, formatCount } from '../../lib/cli/format.js'
import { Decoder, heldOutLoss } from './decoder/index.js'
import { MODEL_DIRECTORY, readHeldOut, TRACE_FILE } from './files.js'

const { values } = parseArgs({
  options: {
    windows: { type: 'string', default: '16' },
    device: { type: 'string', default: 'auto' },
    out: { type: 'string', default: TRACE_FILE },
  },
})

using decoder = await Decoder.load(MODEL_DIRECTORY, { device: values.device as DeviceOption })
const { routing, numTokens, loss } = await heldOutLoss(decoder, await readHeldOut(), Number(values.windows))
const tensors = decoder.sparseLayers.flatMap((layer, index) => {
  const parts = routing.map(layers => layers[index]!)
  const { topK, numExperts } = parts[0]!
  // Ids are bytes, −1 has no place: a trace is of the layer as trained, which drops nothing.
  if (numExperts > 256) throw new Error(`ids of ${numExperts} experts do not fit a byte`)
  const shape = [numTokens, topK]
  const ids = Uint8Array.from(parts.flatMap(({ topkIds }) => [...topkIds]))
  const weights = Float32Array.from(parts.flatMap(({ topkWeights }) => [...topkWeights]))
  return [
    { name: `layers.${layer}.topk_weights`, dtype: 'F16', shape, data: fromFloat32(weights, 'f16') },
    { name: `layers.${layer}.topk_ids`, dtype: 'U8', shape, data: ids },
  ]
})
// Wider elements first keeps them aligned.
tensors.sort((a, b) => b.data.BYTES_PER_ELEMENT - a.data.BYTES_PER_ELEMENT)
await mkdir(path.dirname(values.out), { recursive: true })
await writeSafetensors(values.out, tensors, {
  num_experts: String(decoder.feedForwards.at(-1)!.config.numExperts),
  held_out_loss: loss.toFixed(4),
})
const bytes = tensors.reduce((sum, { data }) => sum + data.byteLength, 0)
process.stdout.write(
  `${values.out}: ${formatCount(numTokens)} tokens, ${decoder.sparseLayers.length} layers, ${formatBytes(bytes)}\n`,
)
