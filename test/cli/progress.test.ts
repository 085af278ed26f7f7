import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { showProgress } from '../../bench/harness/progress.js'
import { loadBar } from '../../lib/cli/progress.js'

const CLEAR = '\r\u001b[K'

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] })
})
afterEach(() => {
  vi.useRealTimers()
})

/** A stream that keeps what is written. */
function makeStream(isTTY: boolean, columns = 100) {
  const written: string[] = []
  const stream = { isTTY, columns, write: (text: string) => written.push(text) > 0 }
  return { written, stream: stream as unknown as NodeJS.WriteStream }
}

describe('the bar of a load', () => {
  it('is one line of a terminal, rewritten, and gone at the end', () => {
    const { written, stream } = makeStream(true)
    const bar = loadBar('loading', stream)
    bar.update({ loadedBytes: 0, totalBytes: 4_000_000 })
    vi.advanceTimersByTime(1000)
    bar.update({ loadedBytes: 2_000_000, totalBytes: 4_000_000 })
    bar.stop()
    bar.stop()
    const empty = '░'.repeat(30)
    const half = '█'.repeat(15) + '░'.repeat(15)
    expect(written).toEqual([
      `${CLEAR}loading  ${empty} 0%  0 B of 4.00 MB  n/a`,
      `${CLEAR}loading  ${half} 50%  2.00 MB of 4.00 MB  2.00 MB/s`,
      CLEAR,
    ])
  })

  it('is drawn ten times a second at most, and when everything is there', () => {
    const { written, stream } = makeStream(true)
    const bar = loadBar('loading', stream)
    for (let i = 0; i <= 1000; i++) {
      bar.update({ loadedBytes: i, totalBytes: 1000 })
      vi.advanceTimersByTime(1)
    }
    expect(written).toHaveLength(11)
    expect(written.at(-1)).toContain('100%')
  })

  it('never wraps', () => {
    const { written, stream } = makeStream(true, 20)
    loadBar('loading a layer', stream).update({ loadedBytes: 0, totalBytes: 1 })
    expect(written[0]!.slice(CLEAR.length)).toHaveLength(19)
  })

  it('of nothing is full', () => {
    const { written, stream } = makeStream(true)
    loadBar('loading', stream).update({ loadedBytes: 0, totalBytes: 0 })
    expect(written[0]).toContain('100%')
  })

  it('is a few plain lines elsewhere', () => {
    const { written, stream } = makeStream(false)
    const bar = loadBar('loading', stream)
    for (let i = 0; i <= 50; i++) {
      bar.update({ loadedBytes: i, totalBytes: 50 })
      vi.advanceTimersByTime(100)
    }
    bar.stop()
    expect(written).toEqual(['loading: 50 B\n', 'loading: 40 %, 20 B\n', 'loading: 80 %, 40 B\n'])
  })
})

describe('the bar of a benchmark', () => {
  it('stays below the lines that are printed', () => {
    const { written, stream } = makeStream(true)
    const progress = showProgress(2, stream)
    progress.next('first')
    progress.line('a result')
    vi.advanceTimersByTime(3000)
    progress.next('second')
    progress.stop()
    const half = '█'.repeat(12) + '░'.repeat(12)
    expect(written).toEqual([
      `${CLEAR}${half} 1/2  first`,
      `${CLEAR}a result\n${half} 1/2  first`,
      `${CLEAR}${'█'.repeat(24)} 2/2  3.00 s  second`,
      CLEAR,
    ])
  })
})
