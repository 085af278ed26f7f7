/** The load of the experts that the example server shows: its figures, and the page that draws them. */

import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { LoadHistory } from '../../examples/http-server/load-history.js'
import { browser, renderPage } from '../helpers/browser.js'
import { type ExampleServer, exampleRows, startExampleServer } from '../helpers/example-server.js'
import { repository } from '../helpers/run-program.js'
import { TINY, temporaryDirectory } from '../helpers/scratch.js'

if (browser === undefined) console.warn('skipped, no browser on PATH: the page of the load in a real browser')

const PAGE = path.join(repository, 'examples/http-server/load-page.html')
const { numExperts, topK } = TINY
const row = [...exampleRows(1)]
let server: ExampleServer
beforeAll(async () => {
  server = await startExampleServer()
})
afterAll(() => server.close())

describe('the page of the load', () => {
  it('is one file that may ask its own server and nothing else', async () => {
    const response = await server.ask('/')
    expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8')
    expect(response.headers.get('content-security-policy')).toMatch(
      /^default-src 'none'; connect-src 'self'; img-src data:; script-src 'sha256-\S+'; style-src 'sha256-\S+'$/,
    )
    expect(await response.text()).not.toMatch(/https?:\/\/(?!www\.w3\.org\/2000\/svg)/)
  })

  it('takes its figures from /load', async () => {
    type Load = { tokens: number; tokensPerExpert: number[] }
    const load = async () => (await (await server.ask('/load')).json()) as Load
    const before = await load()
    const { topkIds } = (await (await server.json({ hiddenStates: [row, row] })).json()) as {
      topkIds: number[][]
    }
    const expected = [...before.tokensPerExpert]
    for (const id of topkIds.flat()) expected[id]!++
    expect(await load()).toMatchObject({
      device: 'reference',
      ...{ family: server.layer.config.family, numExperts, topK, queueDepth: 0, queuedTokens: 0 },
      ...{ tokens: before.tokens + 2, tokensPerExpert: expected },
    })
  })

  it.skipIf(browser === undefined)('asks the server that it came from, within its policy', async () => {
    await server.binary(exampleRows(4))
    const { dom, errors } = await renderPage(`${server.url}/`)
    expect(errors).toEqual([])
    expect(dom).toContain(
      `${server.layer.config.family} on reference: ${numExperts} experts, ${topK} of them`,
    )
    expect(dom.match(/<rect class="bar"/g)).toHaveLength(numExperts)
  })
})

/** A server of the page with figures of our own: each of `rows` and of `recent` is an expert's. */
async function renderFigures(rows: number[], recent: number[], width: number) {
  const load = {
    ...{ family: 'some_family', device: 'cuda:0', numExperts: rows.length, topK: 2 },
    ...{ calls: 12, rejectedCalls: 3, batches: 5, tokens: 1_230_000, queueDepth: 4, queuedTokens: 77 },
    tokensPerExpert: rows,
    recent: { seconds: 60, tokens: 1500, tokensPerExpert: recent },
  }
  const own = createServer((request, response) => {
    if (request.url === '/load') response.end(JSON.stringify(load))
    else response.setHeader('content-type', 'text/html').end(readFileSync(PAGE))
  })
  await new Promise<void>(resolve => own.listen(0, '127.0.0.1', resolve))
  try {
    const keep = process.env.SE_TEST_SCREENSHOTS
    const screenshot = path.join(keep ?? (await temporaryDirectory()), `load-${rows.length}-${width}.png`)
    const { port } = own.address() as AddressInfo
    return await renderPage(`http://127.0.0.1:${port}/`, { screenshot, width })
  } finally {
    own.closeAllConnections()
    own.close()
  }
}

describe.skipIf(browser === undefined)('the page of the load, in a real browser', () => {
  it.each([
    [8, 390],
    [8, 1200],
    [256, 390],
  ])('draws %d experts with axes and a legend on %d pixels', async (numBars, width) => {
    const rows = Array.from({ length: numBars }, (_, expert) =>
      expert === 0 ? 0 : 100 + ((expert * 37) % 101),
    )
    const recent = rows.map((_, expert) => (expert * 53) % 97)
    const { dom, errors } = await renderFigures(rows, recent, width)
    expect(errors).toEqual([])
    for (const label of ['rows of the expert / mean of all', 'expert', '0', '1', '2'])
      expect(dom, label).toContain(`>${label}</text>`)
    for (const label of ['last minute', 'since the start', 'even load'])
      expect(dom).toContain(`${label}</li>`)
    const shown = (id: string) => new RegExp(`<dd id="${id}">(.*?)</dd>`).exec(dom)?.[1]
    expect(['rate', 'queued', 'joined', 'refused', 'unused'].map(shown)).toEqual([
      '25',
      '77',
      '2.4',
      '3',
      '1',
    ])

    // What is drawn stands as high above the axis, in units of the line of even load, as the figures say.
    const yOf = (name: string) => Number(new RegExp(`class="${name}"[^>]*y1="([^"]*)"`).exec(dom)![1])
    const heightOf = (pixels: string | undefined) => Number(pixels) / (yOf('axis') - yOf('even'))
    const ratios = (figures: number[]) =>
      figures.map(figure => (figure * numBars) / figures.reduce((a, b) => a + b, 0))
    const bars = [...dom.matchAll(/<rect class="bar"[^>]*height="([^"]*)"/g)].map(found => heightOf(found[1]))
    const steps = [.../class="all" d="([^"]*)"/.exec(dom)![1]!.matchAll(/M\S+ (\S+?)H/g)].map(found =>
      heightOf(String(yOf('axis') - Number(found[1]))),
    )
    for (const [drawn, figures] of [
      [bars, recent],
      [steps, rows],
    ] as const) {
      const expected = ratios(figures)
      expect(drawn).toHaveLength(numBars)
      for (const [expert, height] of drawn.entries()) expect(height).toBeCloseTo(expected[expert]!, 6)
    }
    // As wide as the window: nothing hangs over its edge.
    const drawn = Number(/viewBox="0 0 (\d+)/.exec(dom)![1])
    expect(drawn).toBeGreaterThan(width * 0.85)
    expect(drawn).toBeLessThan(width)
  })
})

describe('what a layer did lately', () => {
  it('is of the last minute, or since the start', () => {
    let now = 0
    const counted = { tokens: 10, tokensPerExpert: Float64Array.of(4, 6) }
    const count = () => ({ ...counted, tokensPerExpert: counted.tokensPerExpert.slice() })
    const history = new LoadHistory(count, () => now)
    expect(history.recent()).toEqual({ seconds: 0, tokens: 0, tokensPerExpert: [0, 0] })
    /** In each second the first expert has a row. */
    const pass = (seconds: number) => {
      for (let second = 0; second < seconds; second++) {
        now += 1000
        counted.tokens++
        counted.tokensPerExpert[0]!++
        history.keep()
      }
    }
    pass(30)
    expect(history.recent()).toEqual({ seconds: 30, tokens: 30, tokensPerExpert: [30, 0] })
    pass(100)
    expect(history.recent()).toEqual({ seconds: 60, tokens: 60, tokensPerExpert: [60, 0] })
    counted.tokensPerExpert[1]! += 5
    now += 500
    expect(history.recent()).toEqual({ seconds: 60.5, tokens: 60, tokensPerExpert: [60, 5] })
  })
})
