/** The fit of choose_matmul's constants: on made times it finds the constants that made them. */

import { describe, expect, it } from 'vitest'
import {
  COMMITTED,
  type Constants,
  cellsOf,
  checkRules,
  choose,
  fitConstants,
  lossOf,
  type Timing,
} from '../../bench/gpu/choice.js'

/** Every tile of one matmul, as a sweep has them; `time` says how long one takes. */
function cell(
  tokens: number,
  chosen: (timing: Timing) => boolean,
  time: (timing: Timing) => number,
): Timing[] {
  const wide = [64, 128, 192, 256].map(tileTokens => ({
    variant: 'bf16 wgmma',
    kernel: tileTokens,
    tileTokens,
    stages: 4,
    blocks: 1,
  }))
  const half = [
    [0, 8],
    [0, 16],
    [1, 32],
    [2, 64],
    [2, 128],
  ].flatMap(([kernel, tileTokens]) =>
    [1, 2].flatMap(blocks =>
      [3, 4].map(stages => ({
        variant: 'bf16 mma',
        kernel: kernel!,
        tileTokens: tileTokens!,
        stages,
        blocks,
      })),
    ),
  )
  return [...wide, ...half].map(config => {
    const timing: Timing = {
      ...{ shape: 'made', tokens, routing: 'uniform', matmul: 'down', experts: 64, topK: 8 },
      ...config,
      chosen: false,
      us: 0,
    }
    return { ...timing, us: time(timing), chosen: chosen(timing) }
  })
}

const TOKENS = [1, 8, 16, 40, 64, 96, 128, 200, 256, 320, 400, 512, 768, 1024, 1536, 2048, 3072, 4096]

/** Times under which these constants choose best everywhere. */
function timesOf(constants: Constants): Timing[] {
  return TOKENS.flatMap(tokens => {
    const every = cell(
      tokens,
      () => false,
      () => 1,
    )
    const best = choose(every, constants)!
    return cell(
      tokens,
      () => false,
      timing =>
        timing.variant === best.variant &&
        timing.kernel === best.kernel &&
        timing.tileTokens === best.tileTokens &&
        timing.stages === best.stages &&
        timing.blocks === best.blocks
          ? 100
          : 110,
    )
  })
}

describe('the fit of the constants', () => {
  it('changes nothing where the committed ones are best', () => {
    const cells = cellsOf(timesOf(COMMITTED))
    expect(cells).toHaveLength(TOKENS.length)
    expect(lossOf(cells, COMMITTED).mean).toBe(0)
    expect(fitConstants(cells)).toEqual(COMMITTED)
  })

  it.each<Constants>([
    { ...COMMITTED, fewTokens: 48 },
    { ...COMMITTED, tokensOfATile: 192 },
    { ...COMMITTED, mostOf16: 4, fewTokens: 64, mostOf64: 24 },
  ])('finds %j', constants => {
    const cells = cellsOf(timesOf(constants))
    expect(lossOf(cells, COMMITTED).mean).toBeGreaterThan(0)
    expect(lossOf(cells, fitConstants(cells)).mean).toBe(0)
  })

  it('names the cell that loses most', () => {
    const cells = cellsOf(
      cell(
        4096,
        () => false,
        ({ tileTokens }) => (tileTokens === 64 ? 50 : 100),
      ),
    )
    expect(lossOf(cells, COMMITTED)).toMatchObject({
      mean: 1,
      cells: 1,
      worst: { share: 1, cell: { tileTokens: 256 }, best: { tileTokens: 64 } },
    })
  })

  it('says where the library chose other than the rules do here', () => {
    const right = cell(
      4096,
      ({ tileTokens, variant }) => variant === 'bf16 wgmma' && tileTokens === 256,
      () => 1,
    )
    const wrong = cell(
      4096,
      ({ tileTokens }) => tileTokens === 192,
      () => 1,
    )
    expect(checkRules(cellsOf(right))).toEqual([])
    expect(checkRules(cellsOf(wrong))).toHaveLength(1)
  })

  it('leaves out what the sweep did not come to', () => {
    const cut = cell(
      4096,
      () => false,
      () => 1,
    ).filter(({ tileTokens }) => tileTokens !== 256)
    expect(lossOf(cellsOf(cut), COMMITTED)).toMatchObject({ cells: 0, mean: Number.NaN })
  })
})
