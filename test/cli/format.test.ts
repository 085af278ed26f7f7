import { describe, expect, it } from 'vitest'
import {
  bar,
  displayWidth,
  formatBytes,
  formatDuration,
  formatFlopRate,
  formatNumber,
  formatPercent,
  formatRatio,
  heatLine,
  makePaint,
  table,
  wrap,
} from '../../lib/cli/format.js'
import { loadChart, median, summarizeLoad } from '../../lib/cli/load-chart.js'

describe('figures', () => {
  it('have three digits and a unit', () => {
    expect([0, 999, 1000, 999_499, 999_500, 83_200_000, 2.5e9].map(formatBytes)).toEqual([
      '0 B',
      '999 B',
      '1.00 kB',
      '999 kB',
      '1.00 MB',
      '83.2 MB',
      '2.50 GB',
    ])
    expect([0.0123, 1.234, 12.34, 123.4, 1234].map(formatNumber)).toEqual([
      '0.0123',
      '1.23',
      '12.3',
      '123',
      '1,234',
    ])
    expect([0.85, 12.34, 999.6, 3420, 125_000].map(formatDuration)).toEqual([
      '850 µs',
      '12.3 ms',
      '1.00 s',
      '3.42 s',
      '2 min 5 s',
    ])
    expect(formatFlopRate(45.2e9, 1000)).toBe('45.2 GFLOP/s')
    expect(formatFlopRate(1, 0)).toBe('n/a')
    expect([0, 0.0004, 0.046, 0.46, 1].map(formatPercent)).toEqual([
      '0 %',
      '<0.1 %',
      '4.6 %',
      '46 %',
      '100 %',
    ])
    expect(formatRatio(9.126)).toBe('9.13×')
    expect(formatRatio(1 / 0)).toBe('n/a')
  })
})

describe('bars and columns', () => {
  it('scales bars to an eighth of a column, and shows the least', () => {
    expect(bar(10, 10, 4)).toBe('████')
    expect(bar(5, 10, 3)).toBe('█▌')
    expect(bar(1, 1e6, 4)).toBe('▏')
    expect(bar(0, 10, 4)).toBe('')
    expect(heatLine([0, 1, 4, 8])).toBe('·▁▄█')
  })

  it('aligns columns by what is seen', () => {
    const paint = makePaint({ isTTY: true }, {})
    const lines = table(
      [
        [paint.bold('a'), '1'],
        ['bbb', '22'],
      ],
      'lr',
    )
    expect(lines.map(displayWidth)).toEqual([9, 9])
    expect(lines[1]).toBe('  bbb  22')
    expect(wrap('one two three', 7)).toEqual(['one two', 'three'])
  })

  it('paints terminals only, and never with NO_COLOR', () => {
    expect(makePaint({ isTTY: true }, {}).red('x')).toBe('\u001b[31mx\u001b[39m')
    expect(makePaint({ isTTY: true }, { NO_COLOR: '1' }).red('x')).toBe('x')
    expect(makePaint({ isTTY: true }, { TERM: 'dumb' }).red('x')).toBe('x')
    expect(makePaint({}, {}).red('x')).toBe('x')
    expect(makePaint({}, { FORCE_COLOR: '1' }).red('x')).not.toBe('x')
  })
})

describe('expert load', () => {
  it('summarises', () => {
    expect(summarizeLoad(Int32Array.of(0, 4, 2, 2))).toEqual({
      numExperts: 4,
      active: 3,
      assignments: 8,
      min: 0,
      median: 2,
      max: 4,
      balancedness: 0.5,
    })
    expect(median([3, 1])).toBe(2)
    expect(median([])).toBeNaN()
  })

  it('draws the busiest first and the median of the rest', () => {
    const lines = loadChart(Int32Array.of(1, 9, 3, 3), makePaint({}, {}), { top: 2, width: 9 })
    expect(lines.slice(0, 3)).toEqual(['      #1   9  █████████', '      #2   3  ███', '  median   3  ███'])
    expect(lines[3]).toContain('4 of 4 experts active')
    expect(loadChart(new Int32Array(4), makePaint({}, {}))).toEqual(['  no expert got a token'])
  })
})
