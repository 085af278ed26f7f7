import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { writeCheckpoint } from '../../bench/goals/checkpoint.js'
import { type Collected, collect, readAll } from '../../bench/goals/collect.js'
import * as goals from '../../bench/goals/goals.js'
import { parseGoalsOptions } from '../../bench/goals/goals-options.js'
import type { GoalsResults, LoadRow, ShareRow, SkewRow } from '../../bench/goals/goals-results.js'
import { judge } from '../../bench/goals/judge.js'
import { commandOf, runPart } from '../../bench/goals/parts.js'
import { skewsOf } from '../../bench/goals/shares.js'
import { caseName } from '../../bench/goals/verdict.js'
import { verdictLines, verdictSummary, verdictTable } from '../../bench/goals/verdict-table.js'
import { UsageError } from '../../bench/harness/command-line.js'
import type { Row } from '../../bench/harness/results.js'
import { parseOptions } from '../../bench/layer/layer-options.js'
import { parsePeersOptions } from '../../bench/peers/peers-options.js'
import type { ContextRow, PeerRow } from '../../bench/peers/peers-results.js'
import { MoeLayer } from '../../lib/index.js'

const ratio = (median: number) => ({ median, low: median, high: median })
const watched = { foreignCores: 0, disturbed: false }
const name = { shape: 'OLMoE-1B-7B', dtype: 'bf16', threads: 2 } as const
const nothing: Collected = {
  ...{
    machine: null,
    rows: [],
    peerRows: [],
    contexts: [],
    contention: [],
    shares: [],
    skews: [],
    loads: [],
  },
  ...{ overheads: [], memory: [], notMeasured: [], versions: {}, files: [] },
}
const judged = (changes: Partial<Collected>) =>
  judge({ ...nothing, ...changes }).map(({ goal, what, holds }) => [goal, what, holds])

const share = (changes: Partial<ShareRow>): ShareRow => ({
  ...{ ...name, numTokens: 1, medianMs: 1, share: ratio(0.96), bound: 'memory', ...watched },
  ...changes,
})

describe('the goals', () => {
  it('are none without results', () => {
    expect(judge(nothing)).toEqual([])
  })

  it('ask for a share of the limits by dtype and size', () => {
    const shares = [
      share({}),
      share({ share: ratio(0.94), numTokens: 8 }),
      share({ numTokens: 64, share: ratio(0.76), dtype: 'f32' }),
      share({ numTokens: 512, share: ratio(0.66) }),
      share({ numTokens: 512, share: ratio(0.66), dtype: 'f32' }),
      // Asked of nobody.
      share({ numTokens: 512, dtype: 'f16' }),
      share({ numTokens: 2 }),
    ]
    expect(judged({ shares })).toEqual([
      ['share of the read bandwidth, T=1', 'OLMoE-1B-7B bf16 T=1, 2 threads', true],
      ['share of the read bandwidth, T=8', 'OLMoE-1B-7B bf16 T=8, 2 threads', false],
      ['share of the roofline, T=64', 'OLMoE-1B-7B f32 T=64, 2 threads', true],
      [
        'share of the peak of the arithmetic, T=512',
        'OLMoE-1B-7B bf16 T=512, 2 threads (no bf16 unit: of the f32 FMA peak)',
        true,
      ],
      ['share of the peak of the arithmetic, T=512', 'OLMoE-1B-7B f32 T=512, 2 threads', false],
    ])
  })

  it('compare with the fastest of the peers that count', () => {
    const peer = (changes: Partial<PeerRow>): PeerRow => ({
      ...{ shape: 'small', numTokens: 1, threads: 2, group: 'f32', peer: 'sparse-experts', dtype: 'f32' },
      ...{ medianMs: 1, tokensPerSecond: 1, ratio: ratio(1), outputError: 0, ...watched },
      ...changes,
    })
    const at = (numTokens: number, onnx: number, oneDnn: number) => [
      peer({ numTokens }),
      peer({ numTokens, peer: 'onnxruntime-node MoE', ratio: ratio(onnx) }),
      peer({ numTokens, peer: 'oneDNN loop', ratio: ratio(oneDnn) }),
    ]
    // At one token only onnxruntime-node counts; at 512 whoever is fastest.
    const verdicts = judge({ ...nothing, peerRows: [...at(1, 1.2, 0.9), ...at(512, 1.2, 1.1)] })
    expect(verdicts.map(({ measured, holds }) => [measured, holds])).toEqual([
      ['1.20× onnxruntime-node MoE f32', true],
      ['1.10× oneDNN loop f32', false],
    ])
    expect(judge({ ...nothing, peerRows: [peer({}), peer({ group: 'quantized' })] })).toEqual([])
    // Codes beside those of a peer, and beside our own floats, which are no peer.
    const codes = [
      peer({ numTokens: 512, group: 'int4', dtype: 'int4' }),
      peer({
        numTokens: 512,
        group: 'int4',
        dtype: 'int4',
        peer: 'onnxruntime-node QMoE',
        ratio: ratio(1.9),
      }),
      peer({ numTokens: 512, group: 'int4', dtype: 'bf16', ratio: ratio(0.8) }),
    ]
    expect(judged({ peerRows: codes })).toEqual([
      ['faster than the best peer, T=512 int4', 'small int4 T=512, 2 threads', true],
      ['our own bf16 over int4, T=512', 'small int4 T=512, 2 threads', false],
    ])
  })

  it('count of the engine that owns the model what its experts take', () => {
    const engine = (changes: Partial<ContextRow>): ContextRow => ({
      ...{
        shape: 'OLMoE-1B-7B',
        numTokens: 1,
        threads: 2,
        peer: 'node-llama-cpp',
        dtype: 'q4_0',
        layerMs: 1,
      },
      ...{ ratio: ratio(1.4), expertShare: 0.8, ...watched },
      ...changes,
    })
    const contexts = [
      engine({}),
      engine({ shape: 'DeepSeek-V2-Lite', ratio: ratio(1.25) }),
      engine({ threads: 1, ratio: ratio(1.8) }),
      engine({ dtype: 'q4_K' }),
    ]
    expect(judged({ contexts })).toEqual([
      ['faster than the experts of node-llama-cpp, T=1 q4_0', 'OLMoE-1B-7B q4_0 T=1, 1 thread', false],
      ['faster than the experts of node-llama-cpp, T=1 q4_0', 'OLMoE-1B-7B q4_0 T=1, 2 threads', true],
      ['faster than the experts of node-llama-cpp, T=1 q4_0', 'DeepSeek-V2-Lite q4_0 T=1, 2 threads', true],
    ])
  })

  it('ask of codes a share of the read bandwidth, and of AVX2 alone a speed', () => {
    const shares = [
      share({ dtype: 'q4_K', share: ratio(0.89), threads: 1, weightGBs: 15 }),
      share({ dtype: 'fp8', share: ratio(0.87), weightGBs: 17 }),
      share({ dtype: 'q8_0', numTokens: 64 }),
    ]
    const shareGoal = 'share of the read bandwidth, T=1'
    expect(judged({ shares })).toEqual([
      [shareGoal, 'OLMoE-1B-7B q4_K T=1, 1 thread', true],
      [shareGoal, 'OLMoE-1B-7B fp8 T=1, 2 threads', false],
    ])
    const newest = { environment: { architecture: 'avx2' } } as GoalsResults
    expect(judged({ shares, newest })).toEqual([
      ['speed of codes with AVX2, T=1', 'OLMoE-1B-7B q4_K T=1, 1 thread', false],
    ])
  })

  it('ask that codes take the memory that they are stored in', () => {
    const load = (changes: Partial<LoadRow>): LoadRow => ({
      ...{ ...name, weightBytes: 1e9, loadMs: 1, catMs: 1, speed: ratio(1), ...watched },
      ...{ dtype: 'q4_0', heldBytes: 1.025e9, peakBytes: 1.08e9 },
      ...changes,
    })
    const verdicts = judge({
      ...nothing,
      loads: [load({}), load({ dtype: 'q4_K', peakBytes: 1.1e9 }), load({ dtype: 'bf16' })],
    })
    expect(verdicts.map(({ what, measured, holds }) => [what, measured, holds])).toEqual([
      ['OLMoE-1B-7B q4_0, 2 threads', '1.025×', false],
      ['OLMoE-1B-7B q4_K, 2 threads', '1.025×', true],
      ['OLMoE-1B-7B q4_0, 2 threads', '55.0 MB', true],
      ['OLMoE-1B-7B q4_K, 2 threads', '75.0 MB', false],
      ['OLMoE-1B-7B q4_0, 2 threads', '100 %', true],
      ['OLMoE-1B-7B q4_K, 2 threads', '100 %', true],
      ['OLMoE-1B-7B bf16, 2 threads', '100 %', true],
      ['OLMoE-1B-7B bf16, 2 threads', '1.080×', true],
    ])
  })

  it('let skew cost what its bytes and FLOPs say, and never hold because uniform routing is slow', () => {
    const skew = (least: number, measured: number): SkewRow => ({
      ...{ ...name, numTokens: 64, load: 'zipf', ratio: ratio(measured), least, ...watched },
    })
    expect(
      judged({ skews: [skew(1.5, 1.7), skew(0.5, 1.1), skew(0.5, 1.2)] }).map(([, , holds]) => holds),
    ).toEqual([true, true, false])
  })

  it('judge contention, calls and loading by their figures', () => {
    const contention = { ...name, numTokens: 8, quietMs: 1, busyMs: 2, ...watched }
    const overhead = { ...name, device: 'cpu', ...watched }
    const load: LoadRow = {
      ...{ ...name, weightBytes: 100, peakBytes: 114, loadMs: 1, catMs: 1, speed: ratio(0.79), ...watched },
    }
    const verdicts = judge({
      ...nothing,
      contention: [
        { ...contention, ratio: ratio(2.1) },
        { ...contention, ratio: ratio(2.3) },
      ],
      overheads: [
        { ...overhead, forwardSyncUs: 4.9, forwardUs: 41 },
        { ...overhead, shape: 'E8', forwardSyncUs: 9, forwardUs: 9 },
      ],
      loads: [load],
    })
    expect(verdicts.map(({ measured, holds }) => [measured, holds])).toEqual([
      ['2.10×', true],
      ['2.30×', false],
      ['4.90 µs', true],
      ['41.0 µs', false],
      ['1.140×', true],
      ['79 %', false],
    ])
  })

  const cell = (changes: Partial<Row>): Row => ({
    ...{
      ...name,
      what: 'layer',
      device: 'cpu',
      load: 'gate',
      numTokens: 64,
      medianMs: 10,
      p99Ms: 10,
      samples: 5,
    },
    ...{ tokensPerSecond: 1, flops: 1, weightBytes: 1, distinctExperts: 1, gflops: 1, weightGBs: 1 },
    ...{ rooflineShare: null, bound: null, ...watched },
    ...changes,
  })

  it('add up what surrounds the experts, where the layer counted it', () => {
    const of = (numTokens: number, routing: number, changes: Partial<Row> = {}) =>
      cell({ numTokens, phases: { routing, dispatch: 0.004, experts: 9.68, combine: 0.016 }, ...changes })
    const verdicts = judge({
      ...nothing,
      rows: [
        ...[of(1, 0.008), of(64, 0.3), of(8, 1), of(1, 9, { shape: 'E8' }), of(1, 9, { device: 'cuda:0' })],
        cell({ numTokens: 1 }),
      ],
    })
    expect(verdicts.map(({ goal, measured, holds }) => [goal, measured, holds])).toEqual([
      ['routing, dispatch and combine, T=1', '28.0 µs', false],
      ['routing, dispatch and combine of the layer, T≥64', '3.2 % (320 µs)', true],
    ])
  })

  it('ask for lines over T·k and nothing over E but the experts that are hit', () => {
    const line = [64, 128, 512].map(numTokens => cell({ numTokens, medianMs: 1 + numTokens }))
    const bent = [64, 128, 512].map(numTokens =>
      cell({ shape: 'small', numTokens, medianMs: numTokens ** 2 }),
    )
    const sweep = [8, 64, 512].map(e =>
      cell({ shape: `E${e}`, numTokens: 1, medianMs: e ** 0.2, weightBytes: 1e9 }),
    )
    const machine = {
      ...{ fmaInstruction: 'avx2 fma', bf16Instruction: null, foreignCores: 0 },
      threads: [{ threads: 2, readGBs: { best: 30, median: 30 }, fmaGflops: { best: 200, median: 200 } }],
    }
    const verdicts = judge({ ...nothing, machine, rows: [...line, ...bent, ...sweep] })
    expect(verdicts.map(({ what, holds }) => [what, holds])).toEqual([
      ['OLMoE-1B-7B bf16, 2 threads', true],
      ['small bf16, 2 threads', false],
      ['E=8…512 bf16 T=1, 2 threads', false],
    ])
    expect(verdicts[2]!.measured).toBe('E^0.20 (experts hit: E^0.00)')
  })

  it('are printed by name, with what other load makes doubtful', () => {
    const verdicts = judge({ ...nothing, shares: [share({}), share({ share: ratio(0.5), disturbed: true })] })
    const lines = verdictLines(verdicts)
    expect(lines).toHaveLength(3)
    expect(lines[1]).toContain('holds')
    expect(lines[2]).toContain('DOES NOT HOLD ~')
    expect(verdictSummary(verdicts)).toBe('1 of 2 hold; 1 were measured beside other load (~)')
    expect(verdictTable(verdicts).split('\n')).toHaveLength(4)
  })

  it('come from the results of one revision, the undisturbed of two', () => {
    const environment = { cpu: 'a CPU', architecture: 'avx2' } as GoalsResults['environment']
    const results = (date: string, shares: ShareRow[]): GoalsResults => ({
      ...{ benchmark: 'sparse-experts goals', date, revision: 'r', environment, machine: null },
      ...{ shares, skews: [], loads: [] },
    })
    const collected = collect([
      { file: 'a', results: results('1', [share({ medianMs: 1 })]) },
      { file: 'b', results: results('2', [share({ medianMs: 2, disturbed: true })]) },
    ])
    expect(collected.shares.map(({ medianMs }) => medianMs)).toEqual([1])
  })
})

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

it('finds results that were recorded under the earlier name of the goals', () => {
  const recorded = path.join(import.meta.dirname, '../../bench/results')
  expect(collect(readAll(recorded)).shares.length).toBeGreaterThan(0)
})

it('calls a case by its shape, dtype, tokens and threads', () => {
  expect(caseName({ ...name, threads: 1, numTokens: 8 })).toBe('OLMoE-1B-7B bf16 T=8, 1 thread')
  expect(caseName({ ...name, shape: 'Mixtral-8x7B' })).toBe('Mixtral-8x7B bf16, 2 threads')
})

it('sets a skewed load beside the uniform one of as many tokens', () => {
  const work = (weightBytes: number) => ({ weightBytes, flops: 0, distinctExperts: 1 })
  const row = (load: 'uniform' | 'zipf' | 'gate', numTokens: number, bytes: number, rounds: number[]) => ({
    ...{ load, numTokens, work: work(bytes), rounds },
  })
  const rows = [
    row('uniform', 8, 4, [2, 4]),
    row('zipf', 8, 2, [3, 6]),
    row('zipf', 64, 2, [1]),
    row('gate', 8, 1, [1]),
  ]
  expect(skewsOf(rows, ({ weightBytes }) => weightBytes)).toEqual([
    { load: 'zipf', numTokens: 8, ratio: { median: 1.5, low: 1.5, high: 1.5 }, least: 0.5 },
  ])
})

describe('the command line of the goals', () => {
  it('takes shapes by part of a name', () => {
    expect(parseGoalsOptions(['--filter', 'deepseek-v2,olmoe']).shapes).toEqual([
      'DeepSeek-V2-Lite',
      'OLMoE-1B-7B',
    ])
    expect(parseGoalsOptions([]).shapes).toHaveLength(4)
    expect(parseGoalsOptions(['--quick']).shapes).toEqual(['small'])
  })

  it.each([
    ['--filter', 'Mixtral'],
    ['--only', 'speed'],
    ['--rounds', '0'],
    ['--from', 'a', '--out', 'b'],
  ])('refuses %s %s', (...args) => {
    expect(() => parseGoalsOptions(args)).toThrow(UsageError)
  })

  it.each([[[]], [['--quick']], [['--dtype', 'f32']], [['--dtype', 'f32,q4_0,fp8']]])(
    'gives each benchmark words that it takes: %s',
    args => {
      const options = parseGoalsOptions(args)
      for (const part of ['cells', 'sweep'] as const) {
        expect(() => parseOptions(commandOf(part, options)!.args)).not.toThrow()
      }
      for (const part of ['peers', 'engine'] as const) {
        const command = commandOf(part, options)
        if (command) expect(() => parsePeersOptions(command.args)).not.toThrow()
      }
      for (const part of ['shares', 'load'] as const) {
        expect(parseGoalsOptions(commandOf(part, options)!.args)).toMatchObject({
          ...{ parts: [part], dtypes: options.dtypes, shapes: options.shapes, quick: options.quick },
        })
      }
    },
  )

  it('measures codes in what knows them', () => {
    const options = parseGoalsOptions(['--dtype', 'q4_0,fp8'])
    for (const part of ['contention', 'cells', 'sweep'] as const) expect(commandOf(part, options)).toBeNull()
    expect(parsePeersOptions(commandOf('peers', options)!.args).parts).toEqual(['int4'])
    expect(parsePeersOptions(commandOf('engine', options)!.args)).toMatchObject({
      ...{ parts: ['context'], forms: ['q4_0'], threads: [0, 1] },
    })
  })

  it('has no peer for f16', () => {
    const options = parseGoalsOptions(['--dtype', 'f16'])
    expect(commandOf('peers', options)).toBeNull()
    runPart('peers', options, '/nonexistent')
  })
})

describe.each([
  ['small shape', 0],
  ['shape with shared experts', 2],
])('a checkpoint of a %s', (which, numSharedExperts) => {
  const shape = {
    name: which,
    config: {
      ...{ hiddenSize: 64, intermediateSize: 32, numExperts: 4, topK: 2, scoringFunc: 'softmax' as const },
      ...{ normTopkProb: false as const, numSharedExperts },
    },
  }
  const perMatrix = 32 * 64

  // Bytes of a matrix: ggml's own of a block of 32, and a byte for each weight and a scale of f32 for up to 128 rows and columns.
  it.each([
    ['bf16', 'bf16', 2 * perMatrix],
    ['q4_0', 'q4_0', (18 * perMatrix) / 32],
    ['q8_0', 'q8_0', (34 * perMatrix) / 32],
    ['mxfp4', 'mxfp4', (17 * perMatrix) / 32],
    ['q4_K', 'q5_0', (22 * perMatrix) / 32],
    ['fp8', 'fp8 per tensor', perMatrix + 4],
  ] as const)('in %s is one of %s', async (kind, stored, matrixBytes) => {
    const directory = mkdtempSync(path.join(os.tmpdir(), 'goals-test-'))
    try {
      const { source, files, weightBytes } = await writeCheckpoint(shape, kind, directory)
      // The shared experts are one MLP, twice as wide: as many weights, half as many scales of fp8.
      const wide = kind === 'fp8' ? 3 * (2 * perMatrix + 4) : 6 * matrixBytes
      const routed = 3 * 4 * matrixBytes
      expect(weightBytes).toBe(4 * 4 * 64 + routed + (numSharedExperts === 0 ? 0 : wide))
      expect(statSync(files[0]!).size).toBeGreaterThan(weightBytes)
      const layer = await MoeLayer.load(source, { layer: 0, device: 'reference', weights: 'stored' })
      expect(layer.config).toMatchObject({ hiddenSize: 64, numExperts: 4, topK: 2 })
      expect(layer.weightFormat.up).toMatchObject({ stored })
      const { output } = layer.forwardSync(new Float32Array(64).fill(1))
      expect(output.every(Number.isFinite)).toBe(true)
      expect(output.some(value => value !== 0)).toBe(true)
      layer.dispose()
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })
})
