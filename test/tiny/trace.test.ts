/** What docs/guide/traces.md says of the trace that ships. */

import { describe, expect, it } from 'vitest'
import { readTrace, simulate } from '../../lib/index.js'
import { TRACE_DIRECTORY } from '../cases/trace.js'
import { read } from '../docs/markdown.js'

describe('the trace that ships', () => {
  it('is what the guide says', async () => {
    const trace = await readTrace(TRACE_DIRECTORY)
    expect(trace.layers.map(({ numExperts, topK }) => [numExperts, topK])).toEqual(Array(4).fill([32, 4]))
    expect(trace.numRows).toBe(4 * 4096)
  })

  it('has the hits of the table with what is read ahead', async () => {
    const [, text] = /<!-- prefetch:begin -->\n([\s\S]*?)<!-- prefetch:end -->/.exec(
      read('docs/guide/traces.md'),
    )!
    const rows = text!.trim().split('\n').slice(2)
    const trace = await readTrace(TRACE_DIRECTORY)
    const whole = trace.layers.reduce((sum, { numExperts, expertBytes }) => sum + numExperts * expertBytes, 0)
    expect(rows).toHaveLength(3)
    for (const row of rows) {
      const [share, ...stated] = row.match(/[\d.]+/g)!.map(Number)
      const run = (prefetch: 'off' | 'affinity') =>
        simulate(trace, { cache: { hostBytes: (share! / 100) * whole, prefetch }, tokensPerCall: 1 })
      const [off, on] = [await run('off'), await run('affinity')]
      const percent = (value: number) => Number((100 * value).toFixed(1))
      expect(stated, `${share} %`).toEqual([
        ...[percent(off.hitRate), percent(on.hitRate), percent(on.prefetchUsed / on.prefetched)],
        Number(((on.readBytes + on.prefetchedBytes) / off.readBytes).toFixed(2)),
      ])
    }
  })

  it('has the hits of the table', async () => {
    const [, text] = /<!-- heldout:begin -->\n([\s\S]*?)<!-- heldout:end -->/.exec(
      read('docs/guide/traces.md'),
    )!
    const rows = text!.trim().split('\n').slice(2)
    const trace = await readTrace(TRACE_DIRECTORY)
    const whole = trace.layers.reduce((sum, { numExperts, expertBytes }) => sum + numExperts * expertBytes, 0)
    expect(rows).toHaveLength(3)
    for (const row of rows) {
      const [share, ...stated] = row.match(/[\d.]+/g)!.map(Number)
      const hostBytes = (share! / 100) * whole
      const rates: number[] = []
      for (const policy of ['lru', 'lfu', 'lfru', 'static'] as const) {
        const cache = { hostBytes, policy, profile: policy === 'static' ? trace : undefined }
        rates.push((await simulate(trace, { cache, tokensPerCall: 1 })).hitRate)
      }
      rates.push((await simulate(trace, { cache: { hostBytes }, tokensPerCall: 1 })).belady.hitRate)
      expect(stated, `${share} %`).toEqual(rates.map(rate => Number((100 * rate).toFixed(1))))
    }
  })
})
