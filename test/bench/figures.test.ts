import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { bestOf, limitsFor, type MachineLimits } from '../../bench/harness/machine.js'
import { busyMs, foreignCores } from '../../bench/harness/other-load.js'
import { machineLines, memoryLine, tableHead, tableLine } from '../../bench/harness/result-lines.js'
import { cellKey, type Results, type Row, readResults, writeResults } from '../../bench/harness/results.js'
import { figuresOf, meanWork, rooflineMs, withLimits } from '../../bench/harness/roofline.js'
import { compareResults, comparisonLines, meanRatio } from '../../bench/layer/earlier-results.js'

const rate = (best: number) => ({ best, median: best / 2 })
const machine: MachineLimits = {
  fmaInstruction: 'avx512 fma',
  bf16Instruction: 'vdpbf16ps',
  foreignCores: 0,
  threads: [
    { threads: 1, readGBs: rate(30), fmaGflops: rate(240), bf16Gflops: rate(480) },
    { threads: 2, readGBs: rate(40), fmaGflops: rate(480), bf16Gflops: rate(960) },
  ],
}
const timing = { medianMs: 2, p99Ms: 3, samples: 10, foreignCores: 0, disturbed: false }
const work = { flops: 1e8, weightBytes: 4e7, distinctExperts: 6 }
const name = {
  what: 'layer',
  shape: 'S',
  device: 'cpu',
  dtype: 'bf16',
  load: 'gate',
  numTokens: 1,
  threads: 2,
} as const
const row: Row = { ...name, ...figuresOf(timing, 1, work, limitsFor(machine, 'bf16', 2)) }

describe('the roofline', () => {
  it('is the longer of reading and multiplying', () => {
    const limits = { bytesPerSecond: 40e9, flopsPerSecond: 960e9 }
    expect(rooflineMs(work, limits)).toEqual({ ms: 1, bound: 'memory' })
    expect(rooflineMs({ ...work, flops: 1.92e9 }, limits)).toEqual({ ms: 2, bound: 'compute' })
  })

  it('takes the unit of the dtype: bf16 its own, f16 and a missing one that of f32', () => {
    expect(limitsFor(machine, 'bf16', 2)!.flopsPerSecond).toBe(960e9)
    expect(limitsFor(machine, 'f16', 2)!.flopsPerSecond).toBe(480e9)
    const without = { ...machine, threads: [{ threads: 2, readGBs: rate(40), fmaGflops: rate(480) }] }
    expect(limitsFor(without, 'bf16', 2)!.flopsPerSecond).toBe(480e9)
    expect(limitsFor(machine, 'f32', 3)).toBeNull()
  })

  it('gives rates of the median', () => {
    expect(row).toMatchObject({
      tokensPerSecond: 500,
      gflops: 50,
      weightGBs: 20,
      rooflineShare: 0.5,
      bound: 'memory',
    })
    expect(figuresOf(timing, 1, work, null)).toMatchObject({ rooflineShare: null, bound: null })
  })

  it('is taken anew from better limits, and only where it was taken at all', () => {
    const better = bestOf(machine, { ...machine, threads: [{ threads: 2, readGBs: rate(80) }] })
    expect(withLimits(row, better).rooflineShare).toBe(0.25)
    expect(withLimits({ ...row, rooflineShare: null }, better).rooflineShare).toBeNull()
  })

  it('means the work of calls', () => {
    expect(meanWork([work, { flops: 3e8, weightBytes: 0, distinctExperts: 2 }])).toEqual({
      flops: 2e8,
      weightBytes: 2e7,
      distinctExperts: 4,
    })
  })
})

it('keeps the better of two measurements, figure by figure, with threads of both', () => {
  const other: MachineLimits = {
    ...machine,
    threads: [
      { threads: 2, readGBs: rate(35), fmaGflops: rate(500) },
      { threads: 4, readGBs: rate(60) },
    ],
  }
  const best = bestOf(machine, other)
  expect(best.threads.map(({ threads }) => threads)).toEqual([1, 2, 4])
  expect(best.threads[1]).toEqual({
    threads: 2,
    readGBs: rate(40),
    fmaGflops: rate(500),
    bf16Gflops: rate(960),
  })
})

describe('other load', () => {
  it('is busy time less our own, stolen time included, idle and waiting left out', () => {
    expect(busyMs('cpu  10 20 30 1000 500 4 5 6 7 8\ncpu0 1 1 1 1 1 1 1 1 0 0\n')).toBe(750)
    expect(foreignCores(1500, 500, 1000)).toBe(1)
  })

  it('is none within the ticks of the clock', () => {
    expect(foreignCores(530, 500, 1000)).toBe(0)
    expect(foreignCores(400, 500, 1000)).toBe(0)
    expect(foreignCores(600, 500, 0)).toBe(0)
  })
})

describe('a comparison with earlier results', () => {
  const results = (rows: Row[]) =>
    ({ benchmark: 'sparse-experts', date: 'then', revision: '', rows }) as unknown as Results
  const faster = { ...row, medianMs: 1 }
  const small = { ...row, numTokens: 8, medianMs: 2.1 }

  it('matches cells by name and leaves out those that are new', () => {
    const compared = compareResults(results([faster, small]), results([row]))
    expect(compared).toEqual([{ key: cellKey(row), ratio: 2, verdict: 'faster' }])
  })

  it('calls small differences a tie and disturbed cells disturbed', () => {
    const before = results([{ ...row, numTokens: 8 }])
    expect(compareResults(results([small]), before)[0]!.verdict).toBe('tie')
    expect(compareResults(results([{ ...small, disturbed: true }]), before)[0]!.verdict).toBe('disturbed')
    expect(compareResults(results([{ ...small, medianMs: 4 }]), before)[0]!.verdict).toBe('slower')
  })

  it('sums up by the geometric mean of the undisturbed', () => {
    const of = (ratio: number, verdict: 'faster' | 'disturbed') => ({ key: '', ratio, verdict })
    expect(meanRatio([of(4, 'faster'), of(0.25, 'faster'), of(100, 'disturbed')])).toBeCloseTo(1)
    expect(meanRatio([of(100, 'disturbed')])).toBeNull()
    expect(comparisonLines([], results([]))).toHaveLength(1)
  })
})

describe('the table', () => {
  it('has a figure under each head, and marks what other load disturbed', () => {
    const line = tableLine({ ...row, dense: { medianMs: 20, ratio: 10, how: 'scaled', disturbed: false } })
    expect(line.length).toBe(tableHead().length)
    expect(line).toContain('50 % m')
    expect(line).toContain('≈10.0')
    expect(tableLine({ ...row, disturbed: true, foreignCores: 0.5 })).toContain('~ disturbed: 0.500 cores')
  })

  it('says what memory a layer takes', () => {
    const { what: _what, load: _load, numTokens: _numTokens, ...layer } = name
    const memory = {
      ...layer,
      copies: 2,
      layerBytes: 4e8,
      workspaceBytes: 1e6,
      grownBytes: 2e7,
      peakRssBytes: 6e8,
    }
    expect(memoryLine(memory)).toContain('2 layers 400 MB, scratch 1.00 MB, grown while running 20.0 MB')
  })

  it('says where there is no bf16 unit', () => {
    expect(
      machineLines({ ...machine, bf16Instruction: null, threads: [{ threads: 1, readGBs: rate(30) }] }),
    ).toEqual([
      'limits, 1 thread: read 30.0 GB/s, f32 no such unit (avx512 fma), bf16 no such unit: widened to f32',
    ])
  })
})

it('writes results that say why something was not measured, and not where files lie here', () => {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'results-test-'))
  const file = path.join(directory, 'deep/results.json')
  try {
    const reason = 'no backend: /opt/build/lib.so not found'
    writeResults(file, { benchmark: 'sparse-experts', rows: [], notMeasured: [{ what: 'cuda', reason }] })
    expect(readResults(file).notMeasured).toEqual([{ what: 'cuda', reason: 'no backend: lib.so not found' }])
    writeResults(file, { benchmark: 'another', rows: [] })
    expect(() => readResults(file)).toThrow('no result of this benchmark')
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
})
