/**
 * What choose_matmul would choose by other constants, on the times of a sweep (`cuda_tune`): the rules of
 * csrc/cuda/kernels/sm90/wg_expert_matmul_config.cc and sm80/half_expert_matmul_config.cc, whose constants are the parameters here. `checkRules`
 * holds them against what the library itself chose.
 */

/** One configuration of one matmul, timed. */
export interface Timing {
  shape: string
  tokens: number
  routing: string
  matmul: 'gate and up' | 'down'
  experts: number
  topK: number
  variant: string
  kernel: number
  tileTokens: number
  stages: number
  blocks: number
  chosen: boolean
  us: number
}

/** The configurations of one matmul at one number of tokens. */
export type Cell = readonly Timing[]

export interface Constants {
  /** What a tile on wgmma costs besides its tokens, in tokens. */
  tokensOfATile: number
  /** Tokens per expert up to which wgmma is not taken. */
  fewTokens: number
  /** Tokens per expert up to which mma.sync takes tiles of 16, of 32 and of 64 tokens. */
  mostOf16: number
  mostOf32: number
  mostOf64: number
}

export const COMMITTED: Constants = {
  tokensOfATile: 64,
  fewTokens: 24,
  mostOf16: 10,
  mostOf32: 24,
  mostOf64: 48,
}
/** A call of so few rows never takes wgmma. */
const FEW_ROWS = 32
const WIDTHS = [64, 128, 192, 256] as const

const isWgmma = (timing: Timing) => timing.variant.endsWith('wgmma')

export function cellsOf(timings: readonly Timing[]): Cell[] {
  const cells = new Map<string, Timing[]>()
  for (const timing of timings) {
    const key = [timing.shape, timing.tokens, timing.routing, timing.matmul].join('|')
    cells.set(key, [...(cells.get(key) ?? []), timing])
  }
  return [...cells.values()]
}

/** Tokens of a tile on wgmma. */
export function widthOf(perExpert: number, tokensOfATile = COMMITTED.tokensOfATile): number {
  const cost = (width: number) => Math.max(1, perExpert / width + 0.5) * (width + tokensOfATile)
  return WIDTHS.reduce<number>((best, width) => (cost(width) <= cost(best) ? width : best), WIDTHS[0])
}

/** Whether a call takes wgmma, where the device has it and the layer's weights can be described. */
export const takesWgmma = (tokens: number, perExpert: number, fewTokens = COMMITTED.fewTokens) =>
  perExpert > fewTokens && tokens > FEW_ROWS

/** Kernel and tokens of a tile on mma.sync. */
function halfTile(tokens: number, perExpert: number, constants: Constants): [number, number] {
  if (tokens <= 8) return [0, 8]
  if (perExpert <= constants.mostOf16 || tokens <= 16) return [0, 16]
  if (perExpert <= constants.mostOf32 || tokens <= 32) return [1, 32]
  if (perExpert <= constants.mostOf64 || tokens <= 64) return [2, 64]
  return [2, 128]
}

/** What these constants choose; undefined where the sweep did not come to it. */
export function choose(cell: Cell, constants: Constants): Timing | undefined {
  const { tokens, topK, experts } = cell[0]!
  const perExpert = (tokens * topK) / experts
  const wide = cell.filter(isWgmma)
  if (wide.length > 0 && takesWgmma(tokens, perExpert, constants.fewTokens)) {
    const width = widthOf(perExpert, constants.tokensOfATile)
    return wide.find(timing => timing.tileTokens === width)
  }
  const [kernel, tileTokens] = halfTile(tokens, perExpert, constants)
  // As many blocks as a multiprocessor holds, then as many stages.
  return cell
    .filter(timing => !isWgmma(timing) && timing.kernel === kernel && timing.tileTokens === tileTokens)
    .sort((a, b) => b.blocks - a.blocks || b.stages - a.stages)[0]
}

const best = (cell: Cell) => cell.reduce((least, timing) => (timing.us < least.us ? timing : least))

export interface Loss {
  /** Mean over cells of the chosen time over the best, less 1. */
  mean: number
  worst: { cell: Timing; best: Timing; share: number } | undefined
  cells: number
}

export function lossOf(cells: readonly Cell[], constants: Constants): Loss {
  let sum = 0
  let count = 0
  let worst: Loss['worst']
  for (const cell of cells) {
    const chosen = choose(cell, constants)
    if (!chosen) continue
    const least = best(cell)
    const share = chosen.us / least.us - 1
    sum += share
    count++
    if (!worst || share > worst.share) worst = { cell: chosen, best: least, share }
  }
  return { mean: count === 0 ? Number.NaN : sum / count, worst, cells: count }
}

const CANDIDATES: { [name in keyof Constants]: readonly number[] } = {
  tokensOfATile: [0, 8, 16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 256],
  fewTokens: [4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128],
  mostOf16: [4, 6, 8, 10, 12, 14, 16, 20, 24],
  mostOf32: [12, 16, 20, 24, 28, 32, 40, 48],
  mostOf64: [24, 32, 40, 48, 56, 64, 80, 96],
}

/** Constants of least mean loss: one after the other, again until none changes. Of equals the one nearest to what is committed. */
export function fitConstants(cells: readonly Cell[], from: Constants = COMMITTED): Constants {
  let constants = from
  for (let round = 0; round < 10; round++) {
    const before = constants
    for (const name of Object.keys(CANDIDATES) as (keyof Constants)[]) {
      const near = [...CANDIDATES[name]].sort((a, b) => Math.abs(a - from[name]) - Math.abs(b - from[name]))
      let least = lossOf(cells, constants).mean
      for (const value of near) {
        const other = { ...constants, [name]: value }
        const { mean } = lossOf(cells, other)
        if (mean < least - 1e-9) [constants, least] = [other, mean]
      }
    }
    if (
      Object.keys(before).every(
        name => before[name as keyof Constants] === constants[name as keyof Constants],
      )
    )
      break
  }
  return constants
}

/** Cells in which the library chose something else than the committed constants do here. */
export function checkRules(cells: readonly Cell[]): Cell[] {
  return cells.filter(cell => {
    const chosen = cell.find(timing => timing.chosen)
    return chosen && choose(cell, COMMITTED) !== chosen
  })
}
