/** `sparse-experts simulate`: its table and its JSON are what `simulate` counts. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { formatBytes } from '../../lib/cli/format.js'
import { readTrace, simulate } from '../../lib/index.js'
import { Random } from '../cases/random.js'
import { runInProcess } from '../helpers/run-in-process.js'
import { removeDirectories, temporaryDirectory } from '../helpers/scratch.js'
import { randomCalls, statedLayer, writeTrace } from '../helpers/traces.js'

const LAYERS = [statedLayer(3, 12, 3, 1e6), statedLayer(4, 12, 3, 1e6)]
let trace: string
let other: string
beforeAll(async () => {
  ;[trace, other] = [await temporaryDirectory(), await temporaryDirectory()]
  await writeTrace(trace, LAYERS, randomCalls(new Random(1), LAYERS, 60))
  await writeTrace(other, LAYERS, randomCalls(new Random(2), LAYERS, 60))
})
afterAll(removeDirectories)

const run = (...args: string[]) => runInProcess(['simulate', trace, ...args])

describe('simulate', () => {
  it('prints a line for each size and policy', async () => {
    const { stdout, status } = await run('--cache', '12MB,50%', '--policy', 'lru,static,belady')
    expect(status).toBe(0)
    const lines = stdout.trimEnd().split('\n')
    expect(lines[0]).toMatch(
      /^2 layers \(3 of 12 experts a token\), 24.0 MB of experts, 120 calls of [\d,]+ rows$/,
    )
    const rows = lines
      .filter(line => /\b(lru|static|belady)\b.*%/.test(line))
      .map(line => line.trim().split(/ {2,}/))
    // Half of 24 MB is 12 MB: the same, twice.
    expect(rows).toHaveLength(6)
    expect(rows.slice(0, 3)).toEqual(rows.slice(3))
    const { hits, belady } = await simulate(trace, { cache: { hostBytes: 12e6 } })
    expect(rows[0]!.slice(0, 4)).toEqual(['12.0 MB', '12', 'lru', hits.toLocaleString('en-US')])
    expect(rows[2]!.slice(2, 4)).toEqual(['belady', belady.hits.toLocaleString('en-US')])
    expect(stdout).toContain('this very trace')
    expect(stdout).not.toContain('p99')
  })

  it('prints times by the rates that are given', async () => {
    const { stdout, status } = await run(
      '--cache',
      '12MB',
      '--disk',
      '1GB/s',
      '--experts',
      '10GB/s',
      '--readers',
      '4',
    )
    expect(status).toBe(0)
    expect(stdout).toMatch(/lru .* ms .* ms {2}disk$/m)
  })

  it('prints what is read ahead, and how much of it is used', async () => {
    const args = ['--cache', '50%', '--tokens-per-call', '1', '--policy', 'lru,belady']
    const { stdout, status } = await run(...args, '--prefetch', 'affinity')
    expect(status).toBe(0)
    expect(stdout).toMatch(/read per call +read ahead +of it used/)
    const cache = { hostBytes: 12e6, prefetch: 'affinity' } as const
    const { hits, prefetched, prefetchUsed } = await simulate(trace, { cache, tokensPerCall: 1 })
    expect(prefetchUsed).toBeGreaterThan(0)
    const line = stdout.split('\n').find(text => / lru /.test(text))!
    expect(line.trim().split(/ {2,}/)).toEqual([
      ...['12.0 MB', '12', 'lru', hits.toLocaleString('en-US')],
      ...[expect.stringContaining('%'), expect.stringContaining('B'), expect.stringContaining('B')],
      `${Math.round((100 * prefetchUsed) / prefetched)} %`,
    ])
    expect((await run(...args)).stdout).not.toContain('read ahead')
  })

  it('prints what memory of the host has behind a GPU', async () => {
    const args = ['--cache', '50%', '--host-cache', '25%', '--policy', 'lru,belady']
    const { stdout, status } = await run(...args, '--disk', '1GB/s', '--copy', '2GB/s', '--experts', '10GB/s')
    expect(status).toBe(0)
    expect(stdout).toMatch(/cache +stay +host +stay there +policy +hits +hit rate +host has +read per call/)
    const cache = { deviceBytes: 12e6, hostBytes: 6e6 }
    const { hits, hostHits } = await simulate(trace, { cache })
    expect(hostHits).toBeGreaterThan(0)
    const line = stdout.split('\n').find(text => / lru /.test(text))!
    const cells = line.trim().split(/ {2,}/)
    expect(cells.slice(0, 6)).toEqual([
      '12.0 MB',
      '12',
      formatBytes(6e6),
      '6',
      'lru',
      hits.toLocaleString('en-US'),
    ])
    expect(cells[7]).toBe(hostHits.toLocaleString('en-US'))
    const [{ deviceBytes, hostBytes, ...counted }] = JSON.parse(
      (await run(...args, '--json')).stdout,
    ).simulations
    expect({ deviceBytes, hostBytes }).toEqual(cache)
    expect(counted).toEqual({ name: 'lru', ...(await simulate(trace, { cache })) })
  })

  it('prints JSON: the layers, and what simulate gives', async () => {
    const args = ['--cache', '10MB', '--policy', 'lfu,static', '--scope', 'model', '--profile', other]
    const { stdout, status } = await run(...args, '--tokens-per-call', '2', '--json')
    expect(status).toBe(0)
    const report = JSON.parse(stdout)
    const { numCalls, numRows } = await readTrace(trace)
    expect(report.trace).toEqual({ layers: LAYERS, calls: numCalls, rows: numRows, expertBytes: 24e6 })
    const cache = { hostBytes: 10e6, scope: 'model', profile: other } as const
    for (const [index, policy] of (['lfu', 'static'] as const).entries())
      expect(report.simulations[index]).toEqual({
        name: policy,
        hostBytes: 10e6,
        ...(await simulate(trace, { cache: { ...cache, policy }, tokensPerCall: 2 })),
      })
  })

  it.each<[string[], number, RegExp]>([
    [['--cache', 'much'], 2, /24GB or 512MiB for --cache, received 'much'/],
    [['--cache', '0%'], 2, /--cache, received '0%'/],
    [['--cache', '1GB,,2GB'], 2, /--cache/],
    [['--policy', 'fifo'], 2, /lru, lfu, lfru, static, belady for --policy/],
    [['--scope', 'all'], 2, /--scope/],
    [['--prefetch', 'router'], 2, /off, affinity for --prefetch/],
    [['--disk', '1GB/s'], 2, /Missing option --experts/],
    [['--tokens-per-call', '0'], 2, /--tokens-per-call/],
    [['--cache', '1MB'], 1, /ERR_MOE_CACHE_TOO_SMALL/],
    [['--host-cache', 'much'], 2, /--host-cache, received 'much'/],
    [['--cache', '50%', '--host-cache', '1MB'], 1, /ERR_MOE_CACHE_TOO_SMALL.*of the host/],
    [['--copy', '1GB/s'], 2, /Missing option --disk/],
    [['--profile', 'nowhere'], 1, /ERR_MOE_IO/],
  ])('%j ends with status %i', async (args, status, message) => {
    const result = await run(...args)
    expect(result.stderr).toMatch(message)
    expect(result.status).toBe(status)
  })

  it('says what is no trace', async () => {
    const { stderr, status } = await runInProcess(['simulate', import.meta.dirname])
    expect(stderr).toMatch(/ERR_MOE_TRACE_INVALID.*given to record/)
    expect(status).toBe(1)
  })
})
