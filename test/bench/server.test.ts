import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { serverChart } from '../../bench/report/charts/server.js'
import { serverPage } from '../../bench/report/server-page.js'
import { MODES, type Mode } from '../../bench/server/modes.js'
import { batchRows } from '../../bench/server/row-batcher.js'
import {
  newestServerResults,
  type ServerFigures,
  type ServerResults,
  summarise,
} from '../../bench/server/server-results.js'
import { runNode } from '../helpers/run-program.js'
import { removeDirectories, temporaryDirectory } from '../helpers/scratch.js'
import { tinyLayer } from '../helpers/tiny-layer.js'

afterAll(removeDirectories)

const figures = (requestsPerSecond: number, p99Ms: number, foreignCores = 0): ServerFigures => ({
  ...{ requestsPerSecond, p50Ms: p99Ms / 2, p99Ms, rowsPerForward: 1, foreignCores },
})
/** Two rounds: alone 100 and 200 requests a second, by the server twice and four times that, as one three times that. */
const rounds = new Map<Mode, ServerFigures[]>([
  ['alone', [figures(100, 40), figures(200, 20)]],
  ['batched by the server', [figures(200, 20), figures(800, 10)]],
  ['as one', [figures(300, 10, 0.5), figures(600, 5, 0.5)]],
])
const rows = summarise({ shape: 'small', dtype: 'bf16', clients: 50 }, rounds)

describe('figures of servers', () => {
  it('are medians of the rounds, and ratios those of each round', () => {
    expect(rows.map(row => [row.mode, row.requestsPerSecond, row.disturbed])).toEqual([
      ['alone', 150, false],
      ['batched by the server', 500, false],
      ['as one', 450, true],
    ])
    expect(rows.map(row => row.requestsRatio)).toEqual([
      { median: 1, low: 1, high: 1 },
      { median: 3, low: 2, high: 4 },
      { median: 3, low: 3, high: 3 },
    ])
    expect(rows.map(row => row.p99Ratio.median)).toEqual([1, 0.5, 0.25])
  })

  it('are all on the page and in the picture', () => {
    const environment = {
      ...{ cpu: 'a CPU', architecture: 'avx2', cores: 2, memoryBytes: 2 ** 34, lastLevelCacheBytes: 2 ** 25 },
      ...{ node: 'v20', platform: '' },
    }
    const results: ServerResults = {
      ...{ benchmark: 'sparse-experts server', date: '2026-01-02', revision: 'r1', environment },
      ...{ rounds: 2, seconds: 4, rows },
    }
    const chart = serverChart(rows)
    const page = serverPage({ file: 'a.json', results }, chart)
    for (const text of [
      '## small bf16, 50 clients',
      '| alone | 150 | 15.0 ms | 30.0 ms | 1.00 |',
      '| as one | ~450 (3.00×, 3.00–3.00) | 3.75 ms | 7.50 ms (0.250×, 0.250–0.250) | 1.00 |',
      'server/a.json',
      `![${chart.caption}](server.svg)`,
    ]) {
      expect(page).toContain(text)
    }
    const { values } = chart.spec.data as { values: { figure: string; mode: string; label: string }[] }
    expect(values).toHaveLength(9)
    expect(values.filter(({ figure }) => figure === 'requests a second').map(({ label }) => label)).toEqual([
      '150',
      '500',
      '~450',
    ])
  })

  it('of a directory without results are none', () => {
    expect(newestServerResults('nowhere')).toBeNull()
  })
})

describe('bench:server', () => {
  it('asks three servers, and only the first one runs each call alone', async () => {
    const file = path.join(await temporaryDirectory(), 'measured.json')
    const { status, stdout, stderr } = await runNode([
      ...['--import', 'tsx', 'bench/server/measure-server.ts'],
      ...['--quick', '--clients', '20', '--json', file],
    ])
    expect(stderr).toBe('')
    expect(status).toBe(0)
    for (const mode of MODES) expect(stdout).toContain(`calls ${mode} `)
    const { results } = newestServerResults(path.dirname(file))!
    const [alone, batched, asOne] = MODES.map(name => results.rows.find(({ mode }) => mode === name)!)
    expect(alone!.rowsPerForward).toBe(1)
    expect(alone!.requestsRatio.median).toBe(1)
    expect(batched!.rowsPerForward).toBeGreaterThan(1)
    expect(asOne!.rowsPerForward).toBeGreaterThan(1)
    for (const { shape, dtype, clients, requestsPerSecond, p50Ms, p99Ms } of results.rows) {
      expect({ shape, dtype, clients }).toEqual({ shape: 'small', dtype: 'bf16', clients: 20 })
      expect(requestsPerSecond).toBeGreaterThan(0)
      expect(p99Ms).toBeGreaterThanOrEqual(p50Ms)
    }
  })

  it('refuses options that mean nothing', async () => {
    const { status, stderr } = await runNode([
      '--import',
      'tsx',
      'bench/server/measure-server.ts',
      '--clients',
      'x',
    ])
    expect(status).toBe(2)
    expect(stderr).toContain('--clients takes whole numbers')
  })

  it('its own batching answers each row with the row’s own output, and fails those of a batch together', async () => {
    const { layer, hidden } = tinyLayer({ device: 'reference' })
    const forward = batchRows(layer, 4)
    const rows = Array.from({ length: 6 }, (_, t) => hidden.slice(t * 32, (t + 1) * 32))
    const expected = layer.forwardSync(hidden).output
    const outputs = await Promise.all(rows.map(forward))
    for (const [t, output] of outputs.entries())
      expect([...output]).toEqual([...expected.subarray(t * 32, (t + 1) * 32)])
    layer.dispose()
    await expect(forward(rows[0]!)).rejects.toMatchObject({ code: 'ERR_MOE_DISPOSED' })
  })
})
