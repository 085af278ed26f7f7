/** docs/goals.md says the figures that the goals are judged by. */

import { readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'
import * as goals from '../../bench/goals/goals.js'

it('says in docs/goals.md what it judges by', () => {
  const page = readFileSync(path.join(import.meta.dirname, '../../docs/goals.md'), 'utf8')
  const rows = page.split('\n').flatMap(line => {
    const [, what, goal] = line.split('|').map(cell => cell.trim())
    return what && goal ? [{ what, goal }] : []
  })
  const goalOf = (what: string) => rows.find(row => row.what.startsWith(what))?.goal
  const percent = (share: number | undefined) => `${Math.round(100 * share!)} %`
  const share = (numTokens: number) => goals.SHARE_GOALS.find(goal => goal.numTokens === numTokens)!.share
  const peers = (numTokens: number, group: string) =>
    goals.PEER_GOALS.find(goal => goal.group === group && goal.numTokens.includes(numTokens))!.ratio
  const engine = (numTokens: number, form: string, threads?: number) =>
    goals.ENGINE_GOALS.find(
      goal => goal.numTokens === numTokens && goal.form === form && goal.threads === threads,
    )!
  const figures: [string, string[]][] = [
    ['share of the measured read bandwidth', [percent(share(1).f32), percent(share(8).bf16)]],
    ['share of the roofline', [percent(share(64).f32), percent(share(64).bf16)]],
    [
      'share of the peak',
      [`f32 at least ${percent(share(512).f32)}`, `bf16 at least ${percent(share(512).bf16)}`],
    ],
    ['time of onnxruntime-node', [`at least ${peers(1, 'f32')}`, `at least ${peers(8, 'f32')}`]],
    [
      'time of the best peer over ours, T=64',
      [`bf16 at least ${peers(64, 'bf16')}`, `f32 at least ${peers(64, 'f32')}`],
    ],
    [
      'time of the best peer over ours, T=512',
      [`bf16 at least ${peers(512, 'bf16')}`, `f32 at least ${peers(512, 'f32')}`],
    ],
    ['share of the measured read bandwidth, codes', [percent(share(1).q4_0), percent(share(1).fp8)]],
    [
      'time of the best peer over ours, int4',
      [1, 8, 64, 512].map(numTokens => `T=${numTokens} at least ${peers(numTokens, 'int4')}`),
    ],
    [
      'time of our own bf16 over int4',
      [`at least ${goals.OWN_GOALS.find(({ dtype }) => dtype === 'bf16')!.ratio}`],
    ],
    [
      'time of our own f32 over int4',
      [`at least ${goals.OWN_GOALS.find(({ dtype }) => dtype === 'f32')!.ratio}`],
    ],
    ['time of exact over int8 activations', [`at least ${goals.MIN_INT8_ACTIVATIONS}`]],
    ['speed of codes', [`at least ${goals.MIN_AVX2_CODE_GBS} GB/s`]],
    [
      'time of the experts of node-llama-cpp over ours, q4_0, T=1',
      [
        ...[
          `one thread at least ${engine(1, 'q4_0', 1).ratio}`,
          `all cores at least ${engine(1, 'q4_0').ratio}`,
        ],
        `DeepSeek-V2-Lite ${engine(1, 'q4_0').except!['DeepSeek-V2-Lite']}`,
      ],
    ],
    ['the same, q8_0', [`one thread at least ${engine(1, 'q8_0', 1).ratio}`]],
    [
      'the same, q4_0, T=8',
      [8, 64, 512].map(numTokens => `T=${numTokens} at least ${engine(numTokens, 'q4_0').ratio}`),
    ],
    ['bytes that codes are held in', [`${goals.MAX_HELD.other}`, `${goals.MAX_HELD.kQuants}`]],
    ['growth of the process at the peak of loading codes', [`${goals.MAX_CODES_LOAD_BYTES / 2 ** 20} MiB`]],
    ['skewed over uniform', [`at most ${goals.MAX_SKEW}`]],
    ['a call beside a busy loop', [`at most ${goals.MAX_CONTENTION}`]],
    ['routing, dispatch and combine, T=1', [`under ${1000 * goals.MAX_AROUND_SINGLE_MS} µs`]],
    [
      `routing, dispatch and combine, from T=${goals.AROUND_TOKENS} on`,
      [`under ${percent(goals.MAX_AROUND_SHARE)}`],
    ],
    ['`forwardSync`', [`under ${goals.MAX_SYNC_US} µs`]],
    ['awaiting `forward`', [`under ${goals.MAX_ASYNC_US} µs`]],
    ['growth of the process at the peak of loading, over', [`at most ${goals.MAX_LOAD_BYTES}`]],
    ['speed of loading', [percent(goals.MIN_LOAD_SPEED)]],
    ['time over T·k', [`at least ${goals.MIN_LINE_R2}`]],
    ['time over the number of experts', [`at most E^${goals.MAX_EXPERT_POWER}`]],
  ]
  for (const [what, said] of figures) for (const figure of said) expect(goalOf(what), what).toContain(figure)
})
