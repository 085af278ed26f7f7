/** The layer that programs attack: softmax, two of its experts for a token. */

export interface SmallSizes {
  hiddenSize: number
  intermediateSize: number
  numExperts: number
}

/** Its config and weights; `matrix` makes each of its matrices. */
export function smallLayer(sizes: SmallSizes, matrix: (rows: number, cols: number) => Float32Array) {
  const { hiddenSize, intermediateSize, numExperts } = sizes
  return {
    config: { scoringFunc: 'softmax', normTopkProb: true, topK: 2, ...sizes } as const,
    weights: {
      router: { weight: matrix(numExperts, hiddenSize) },
      experts: Array.from({ length: numExperts }, () => ({
        gate: matrix(intermediateSize, hiddenSize),
        up: matrix(intermediateSize, hiddenSize),
        down: matrix(hiddenSize, intermediateSize),
      })),
    },
  }
}
