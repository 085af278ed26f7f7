// The example of the README's first page.
import { MoeLayer } from 'sparse-experts'

const layer = await MoeLayer.load('examples/tiny-deepseek/model', { layer: 1 })
const { hiddenSize, numExperts, topK } = layer.config

const hiddenStates = Float32Array.from({ length: 4 * hiddenSize }, () => Math.random() - 0.5) // [numTokens, hiddenSize]
const { output, topkIds, work } = await layer.forward(hiddenStates)

console.log(
  `${output.length} numbers; the first token took experts ${topkIds.subarray(0, topK).join(', ')} of ${numExperts}`,
)
console.log(
  `${work.weightBytes} of ${work.denseWeightBytes} weight bytes, ${work.flops} of ${work.denseFlops} FLOPs`,
)
layer.dispose()
