/** The stages as one MLP, for tests and for the programs that they start. */

import { stages, type Tensor } from '../../lib/index.js'

/** All five stages in a row on tensors of one device: a gated expert MLP. */
export function runStages(input: {
  hidden: Tensor
  router: Tensor
  gateUp: Tensor
  down: Tensor
  numExperts: number
  topK: number
}): { output: Tensor; topkIds: Tensor; topkWeights: Tensor; all: readonly Tensor[] } {
  const { hidden, router, gateUp, down, numExperts, topK } = input
  const logits = stages.gate(hidden, router)
  const rule = { scoringFunc: 'softmax', normTopkProb: true, numExperts, topK } as const
  const { topkIds, topkWeights } = stages.selectExperts(logits, rule)
  const dispatched = stages.dispatch(topkIds, numExperts)
  const inner = stages.expertMatmul(hidden, gateUp, dispatched, {
    gather: true,
    topK,
    gated: true,
    activation: 'silu',
  })
  const expertOutput = stages.expertMatmul(inner, down, dispatched)
  const output = stages.combine(expertOutput, dispatched, topkWeights)
  const { expertOffsets, sortedSlots } = dispatched
  const all = [logits, topkIds, topkWeights, expertOffsets, sortedSlots, inner, expertOutput, output]
  return { output, topkIds, topkWeights, all }
}
