/**
 * Clocks of a tile of the expert matmul on wgmma (csrc/cuda/kernels/sm90), from what it moves and issues in a multiprocessor: counted from the
 * source, never measured.
 *
 * A step of K = 64 multiplies 128 weight rows by `width` tokens. Three things must happen in it, side by side, and the slowest is its time:
 * products, traffic of shared memory, and what arrives from L2. Then the outputs are finished, while nothing is multiplied.
 */

export const WGMMA = {
  rows: 128,
  k: 64,
  /** Bytes of shared memory for stages. */
  pipelineBytes: 192 * 1024,
  /** Products and sums of bf16 per clock and multiprocessor. */
  multiplyAddsPerClock: 4096 / 2,
  sharedBytesPerClock: 128,
  /** From L2 into a multiprocessor. */
  l2BytesPerClock: 46,
  /** Warp instructions of 4 outputs: read sums, bias, activation, weight, store. */
  instructionsOfFour: { gated: 110, plain: 60 },
  instructionsPerClock: 2,
} as const

export interface Step {
  products: number
  shared: number
  l2: number
}

/** Clocks of a step of K = 64. */
export function stepClocks(width: number): Step {
  const { rows, k } = WGMMA
  const weightBytes = rows * k * 2
  const tokenBytes = width * k * 2
  return {
    products: (rows * width * k) / WGMMA.multiplyAddsPerClock,
    // Each is written once. The two groups read their halves of the weights, and both read all tokens.
    shared: (2 * weightBytes + 3 * tokenBytes) / WGMMA.sharedBytesPerClock,
    l2: (weightBytes + tokenBytes) / WGMMA.l2BytesPerClock,
  }
}

/** Clocks in which a tile's outputs are finished. */
export function epilogueClocks(width: number, gated: boolean): number {
  const sums = width * WGMMA.rows * 4
  const outputs = gated ? WGMMA.rows / 2 : WGMMA.rows
  const instructions = ((width * outputs) / 4 / 32) * WGMMA.instructionsOfFour[gated ? 'gated' : 'plain']
  return (2 * sums) / WGMMA.sharedBytesPerClock + instructions / WGMMA.instructionsPerClock
}

export function stagesOf(width: number): number {
  return Math.floor(WGMMA.pipelineBytes / ((WGMMA.rows + width) * WGMMA.k * 2))
}

export function tileClocks(width: number, cols: number, gated: boolean): number {
  const step = stepClocks(width)
  return (
    Math.ceil(cols / WGMMA.k) * Math.max(step.products, step.shared, step.l2) + epilogueClocks(width, gated)
  )
}
