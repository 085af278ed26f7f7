import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { type Collected, collect, readAll } from '../../bench/goals/collect.js'
import type { GoalsResults, LoadRow, ShareRow, SkewRow } from '../../bench/goals/goals-results.js'
import { judge } from '../../bench/goals/judge.js'
import { skewsOf } from '../../bench/goals/shares.js'
import { caseName } from '../../bench/goals/verdict.js'
import { verdictLines, verdictSummary, verdictTable } from '../../bench/goals/verdict-table.js'
import type { Row } from '../../bench/harness/results.js'
import type { ContextRow, PeerRow } from '../../bench/peers/peers-results.js'

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
    // Exact rows beside rows as codes, which is asked of many tokens alone.
    const activations = (numTokens: number, times: number) => [
      peer({ numTokens, group: 'activations', dtype: 'int4', peer: 'sparse-experts, int8 activations' }),
      peer({ numTokens, group: 'activations', dtype: 'int4', ratio: ratio(times) }),
    ]
    const beside = [...activations(8, 1), ...activations(64, 1.3), ...activations(512, 1.2)]
    expect(judged({ peerRows: beside })).toEqual([
      ['exact activations over int8 ones, int4', 'small int4 T=64, 2 threads', true],
      ['exact activations over int8 ones, int4', 'small int4 T=512, 2 threads', false],
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
