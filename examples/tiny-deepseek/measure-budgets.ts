/** Requests with different budgets of arithmetic in one batch: each spends what it has, evenly over its text, and pays in loss. */

import { crossEntropy, type Decoder, RequestLedger, WINDOW } from './decoder/index.js'

export interface BudgetFigures {
  /** Of what the text costs as trained. */
  share: number
  /** FLOPs of the sparse layers; what was spent never exceeds the budget. */
  budget: number
  spent: number
  expertsPerToken: number
  /** This request's part of the weight bytes read by the batch. */
  weightBytes: number
  /** Nats per byte. */
  loss: number
}

/** One window of text, read token by token by one request per share at the same time. */
export async function measureBudgets(
  decoder: Decoder,
  text: Uint8Array,
  shares: readonly number[],
): Promise<BudgetFigures[]> {
  const numLayers = decoder.sparseLayers.length
  const { config, dtype } = decoder.feedForwards[decoder.sparseLayers[0]!]!
  const ledger = new RequestLedger(config, dtype, shares.length)
  const budgets = shares.map(share => share * WINDOW * ledger.tokenFlops(config.topK, numLayers))
  const sequences = shares.map(() => decoder.newSequence())
  const requests = shares.map((_, request) => request)
  const losses = shares.map(() => 0)
  const { vocabSize } = decoder.config
  for (let position = 0; position < WINDOW; position++) {
    const topK = Uint8Array.from(requests, request =>
      ledger.affordableTopK(request, budgets[request]!, WINDOW - position, config.topK, numLayers),
    )
    const parts = sequences.map(sequence => ({ sequence, tokens: [text[position]!] }))
    const { logits, routing } = await decoder.forward(parts, { topK })
    ledger.charge(routing, requests)
    for (const request of requests) {
      const row = logits.subarray(request * vocabSize, (request + 1) * vocabSize)
      losses[request]! += crossEntropy(row, [text[position + 1]!], vocabSize)
    }
  }
  return shares.map((share, request) => {
    const { flops, experts, weightBytes } = ledger.accounts[request]!
    return {
      share,
      budget: budgets[request]!,
      spent: flops,
      expertsPerToken: experts / WINDOW / numLayers,
      weightBytes,
      loss: losses[request]! / WINDOW,
    }
  })
}
