import { describe, expect, it } from 'vitest'
import { collect } from '../../bench/goals/collect.js'
import type { GoalsResults } from '../../bench/goals/goals-results.js'
import { fitLine, fitPower, growthOverExperts, growthOverTokens } from '../../bench/goals/growth.js'
import type { ContentionResults, Results } from '../../bench/harness/results.js'
import { groupBy } from '../../bench/harness/tables.js'
import type { PeerResults } from '../../bench/peers/peers-results.js'
import { expertsChart } from '../../bench/report/charts/experts.js'
import { peersChart } from '../../bench/report/charts/peers.js'
import { rooflineChart } from '../../bench/report/charts/roofline.js'
import { skewChart } from '../../bench/report/charts/skew.js'
import { decades } from '../../bench/report/charts/style.js'
import { threadsChart } from '../../bench/report/charts/threads.js'
import { cpuPage } from '../../bench/report/cpu-page.js'
import { BEGIN, END, replaceBetweenMarkers } from '../../bench/report/readme-section.js'
import { glanceTable, peersTable } from '../../bench/report/tables.js'
import { weightsPage } from '../../bench/report/weights-page.js'
import { cell, machine, peer, peerRows, rows, slower } from './report-rows.js'

const environment = {
  cpu: 'a CPU',
  architecture: 'avx2',
  cores: 2,
  memoryBytes: 2 ** 34,
  lastLevelCacheBytes: 2 ** 25,
  node: 'v20',
  platform: '',
}
const common = { revision: 'r1', environment, machine, notMeasured: [] }
const cells = (changes: Partial<Results> = {}): Results => ({
  ...{ ...common, benchmark: 'sparse-experts', date: '2026-01-02', rows, memory: [] },
  overheads: [
    {
      shape: 'OLMoE-1B-7B',
      device: 'cpu',
      dtype: 'f32',
      threads: 2,
      forwardSyncUs: 4,
      forwardUs: 30,
      foreignCores: 0,
      disturbed: false,
    },
  ],
  ...changes,
})
const peerResults: PeerResults = {
  ...{ ...common, benchmark: 'sparse-experts peers', date: '2026-01-01', rows: peerRows },
  versions: { torch: '1.13' },
  contexts: [
    {
      ...{ shape: 'OLMoE-1B-7B', numTokens: 8, threads: 2, peer: 'node-llama-cpp', dtype: 'bf16' },
      ...{ layerMs: 12, ratio: slower(1.3), expertShare: 0.83, foreignCores: 0, disturbed: false },
    },
  ],
}

const contention: ContentionResults = {
  ...{ benchmark: 'sparse-experts contention', date: '2026-01-01', revision: 'r1', environment },
  rows: [
    {
      ...{ shape: 'OLMoE-1B-7B', dtype: 'bf16', numTokens: 8, threads: 2, quietMs: 10, busyMs: 17 },
      ...{ ratio: slower(1.7), foreignCores: 0, disturbed: false },
    },
  ],
}

describe('results that belong together', () => {
  it('are those of the newest revision and machine', () => {
    const collected = collect([
      { file: 'old.json', results: cells({ date: '2025-01-01', revision: 'r0' }) },
      { file: 'cells.json', results: cells() },
      { file: 'peers.json', results: peerResults },
      {
        file: 'elsewhere.json',
        results: cells({ environment: { ...environment, cpu: 'another' }, date: '2025-12-31' }),
      },
    ])
    expect(collected.files).toEqual(['cells.json', 'peers.json'])
    expect(collected.peerRows).toHaveLength(6)
  })

  it('give the undisturbed of two measurements of a cell, then the newer one', () => {
    const of = (date: string, medianMs: number, disturbed: boolean) => ({
      file: date,
      results: cells({ date, rows: [cell({ medianMs, disturbed })] }),
    })
    const medianOf = (...all: ReturnType<typeof of>[]) => collect(all).rows.map(row => row.medianMs)
    expect(medianOf(of('1', 10, false), of('2', 20, true))).toEqual([10])
    expect(medianOf(of('1', 10, false), of('2', 20, false))).toEqual([20])
  })

  it('are not those of another generation of the same CPU name', () => {
    const old = { ...environment, architecture: 'avx512bf16' }
    const all = [
      { file: 'zen5.json', results: cells({ environment: old }) },
      { file: 'zen3.json', results: cells({ date: '2026-01-03' }) },
    ]
    expect(collect(all).files).toEqual(['zen3.json'])
  })

  it('are none in an empty folder', () => {
    expect(collect([]).newest).toBeUndefined()
  })
})

describe('charts', () => {
  it('are none without rows', () => {
    for (const chart of [
      rooflineChart([], machine),
      threadsChart([]),
      expertsChart([], machine),
      skewChart([], machine),
    ])
      expect(chart).toBeNull()
    expect(peersChart([])).toBeNull()
  })

  it('label the powers of ten around the values', () => {
    expect(decades([0.3, 40])).toEqual([0.1, 1, 10, 100])
  })
})

describe('growth', () => {
  it('finds the line through the points', () => {
    const fit = fitLine([1, 2, 5, 9].map(x => ({ x, y: 3 + 2 * x })))
    expect(fit.slope).toBeCloseTo(2)
    expect(fit.intercept).toBeCloseTo(3)
    expect(fit.r2).toBeCloseTo(1)
  })

  it('is fitted per layer from 64 tokens on, where there are three points', () => {
    const growth = growthOverTokens(rows, () => 8)
    expect(growth).toHaveLength(1)
    expect(growth[0]).toMatchObject({ shape: 'OLMoE-1B-7B', points: 3 })
    expect(growth[0]!.perSlotUs).toBeCloseTo(250)
  })
})

it('finds the power by which time grows with the number of experts', () => {
  expect(fitPower([2, 4, 16].map(x => ({ x, y: 5 * x ** 0.5 })))).toBeCloseTo(0.5)
  const growth = growthOverExperts(rows, row => Number(row.shape.slice(1)))
  expect(growth.map(({ dtype, numTokens }) => [dtype, numTokens])).toEqual([
    ['f32', 1],
    ['f32', 64],
  ])
  for (const { measured, least } of growth) {
    expect(measured).toBeCloseTo(0)
    expect(least).toBeCloseTo(1)
  }
})

describe('pages', () => {
  it('hold every figure of the results, and say what was not measured', () => {
    const collected = collect([
      {
        file: 'cells.json',
        results: cells({ notMeasured: [{ what: 'cuda', reason: 'c.so not found' }] }),
      },
      { file: 'peers.json', results: peerResults },
      { file: 'contention.json', results: contention },
    ])
    const page = cpuPage(collected, [peersChart(peerRows)!])
    for (const text of [
      '333 (1.50×)',
      'cpu-peers.svg',
      '## Stages',
      '## Growth',
      '- cuda: c.so not found',
      '17.0 ms | 1.70×',
      '12.0 ms | 1.30× | 83 %',
      '0.5 %',
    ]) {
      expect(page).toContain(text)
    }
    expect(page).not.toMatch(/NaN|undefined/)
  })

  it('set codes beside what is stored, the limits, peers and the engine', () => {
    const cell = {
      shape: 'OLMoE-1B-7B',
      dtype: 'q4_0' as const,
      threads: 2,
      foreignCores: 0,
      disturbed: false,
    }
    const one = { median: 0.9, low: 0.875, high: 0.925 }
    const goals: GoalsResults = {
      ...{
        benchmark: 'sparse-experts goals',
        date: '2026-11-30',
        revision: 'r',
        environment: cells().environment,
      },
      ...{ machine, skews: [] },
      shares: [{ ...cell, numTokens: 1, medianMs: 1, share: one, bound: 'memory', weightGBs: 28.75 }],
      loads: [
        {
          ...{ ...cell, weightBytes: 2e8, heldBytes: 2.02e8, peakBytes: 2.12e8, loadMs: 90, catMs: 80 },
          speed: { median: 0.9, low: 0.9, high: 0.9 },
        },
      ],
    }
    const int4 = [
      peer({ group: 'int4', dtype: 'int4' }),
      peer({ group: 'int4', dtype: 'int4', peer: 'onnxruntime-node QMoE', ratio: slower(2.5) }),
      peer({ group: 'int4', dtype: 'bf16', ratio: slower(3.5) }),
    ]
    const of = { revision: 'r', environment: cells().environment }
    const page = weightsPage(
      collect([
        { file: 'goals.json', results: goals },
        { file: 'peers.json', results: { ...peerResults, ...of, rows: int4 } },
      ]),
    )
    for (const text of [
      '| OLMoE-1B-7B, q4_0 | 200 MB | 202 MB | 1.010 | 10.0 MB | 90.0 ms | 80.0 ms |',
      '| OLMoE-1B-7B, q4_0, 2 threads | 1 | 1.00 ms | 28.8 | 90 % | 88 %–93 % | memory |',
      // Ours in the form of the group alone is what others are compared with.
      '| OLMoE-1B-7B | 1 | 500 | 500 (2.50×) | 500 (3.50×) |',
      '| faster than the best peer, T=1 int4 | OLMoE-1B-7B int4 T=1, 2 threads | 2.50× onnxruntime-node QMoE int4 | ≥ 2× | holds |',
    ]) {
      expect(page).toContain(text)
    }
    expect(page).not.toMatch(/NaN|undefined/)
  })

  it('put the best peer of the same arithmetic into the table at a glance', () => {
    const table = glanceTable(rows, peerRows).split('\n')
    expect(table).toHaveLength(4)
    expect(table[2]).toContain('50 %')
    expect(table[2]).toContain('1.50× onnxruntime-node MoE')
    const { shape, threads, numTokens } = peerRows.find(row => row.peer === 'sparse-experts')!
    const share = { median: 0.87, low: 0.8, high: 0.9 }
    const beside = { shape, threads, numTokens, dtype: 'f32' as const, medianMs: 1, bound: 'memory' as const }
    const shares = [{ ...beside, share, foreignCores: 0, disturbed: false }]
    expect(glanceTable(rows, peerRows, shares)).toContain('| 87 % |')
    const only = [{ shape, dtype: 'f32', numTokens }]
    expect(glanceTable(rows, peerRows, shares, only).split('\n')).toHaveLength(3)
  })

  it('name the dtype of a peer that has not ours, and show the most threads only', () => {
    const bf16 = { group: 'bf16', numTokens: 1 }
    const table = glanceTable(
      [],
      [
        peer({ ...bf16, dtype: 'bf16' }),
        peer({ ...bf16, dtype: 'bf16', threads: 1 }),
        peer({ ...bf16, dtype: 'bf16', peer: 'PyTorch loop', ratio: slower(9) }),
        peer({ ...bf16, peer: 'onnxruntime-node MoE', ratio: slower(2) }),
      ],
    ).split('\n')
    expect(table).toHaveLength(3)
    expect(table[2]).toContain('2.00× onnxruntime-node MoE in f32')
  })

  it('leave a cell empty where a peer was not measured', () => {
    const [table] = peersTable(peerRows.filter(row => row.numTokens === 1 || row.peer !== 'PyTorch loop'))
    expect(table).toContain('| – |')
  })

  it('replace what stands between the markers, and only that', () => {
    const text = `before\n${BEGIN}\nold\n${END}\nafter\n`
    expect(replaceBetweenMarkers(text, 'new')).toBe(`before\n${BEGIN}\nnew\n${END}\nafter\n`)
    for (const wrong of ['none', `${END}${BEGIN}`, `${text}${text}`]) {
      expect(() => replaceBetweenMarkers(wrong, 'new')).toThrow('once')
    }
  })

  it('group in the order of the first rows', () => {
    expect(groupBy([3, 1, 5, 2], value => (value % 2 ? 'odd' : 'even'))).toEqual([
      ['odd', [3, 1, 5]],
      ['even', [2]],
    ])
  })
})
