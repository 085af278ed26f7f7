/** The default demo, whole: what it writes, checks, shows and puts on its page. */

import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { storyPage } from '../../examples/demo/page.js'
import type { Story } from '../../examples/demo/story.js'
import { devices } from '../../lib/devices/device.js'
import { browser, renderPage } from '../helpers/browser.js'
import { type Pixels, readPng } from '../helpers/png.js'
import { runProgram } from '../helpers/run-program.js'
import { removeDirectories, temporaryDirectory } from '../helpers/scratch.js'

const hasCpu = devices().some(device => device.id === 'cpu' && device.available)
if (browser === undefined) console.warn('skipped, no browser on PATH: the page in a real browser')
const DEMO = 'examples/demo/main.ts'

afterAll(removeDirectories)

const environmentOf = (device: string): NodeJS.ProcessEnv =>
  device === 'cpu' ? {} : { SPARSE_EXPERTS_NATIVE_PATH: '/nowhere/sparse_experts.node' }

/** The device whose page is looked at. */
const drawn = hasCpu ? 'cpu' : 'no addon'

describe.each(hasCpu ? ['no addon', 'cpu'] : ['no addon'])('npm run demo with %s', device => {
  it('writes, checks itself, shows experts, savings and the compute budget', async () => {
    const directory = await temporaryDirectory()
    const [html, svg] = [path.join(directory, 'out.html'), path.join(directory, 'out.svg')]
    const { status, stdout, stderr } = await runProgram(
      DEMO,
      ['--quick', '--html', html, '--svg', svg],
      environmentOf(device),
    )
    expect(stderr).not.toMatch(/error|warn/i)
    expect(status).toBe(0)
    const missing = [
      'This runs on the reference, which is exact and slow.',
      'npm run build:native && npm run demo',
    ]
    for (const text of missing) expect(stdout.includes(text), text).toBe(device !== 'cpu')
    // The prompt begins the text, and the experts stand at the end of its lines.
    expect(stdout).toMatch(/^ {2}And it came to pass .* {2}[·▁▂▃▄▅▆▇█]{32}$/m)
    const picture = await readFile(svg, 'utf8')
    const [, section] = /2\. It writes([\s\S]*)3\. The same text/.exec(stdout)!
    const written = section!.match(/^ {2}\S.* {2}[·▁▂▃▄▅▆▇█]{32}$/gm)!
    expect(picture.match(/class="line"/g)).toHaveLength(written.length)
    expect(picture.match(/class="cell"/g)).toHaveLength(32 * written.length)
    expect(picture).toContain('<tspan class="dim">And it came to pass </tspan>')
    expect(stdout).toContain('best 2 of 4 groups by the sum of their two best, top 4')
    const [, error, bound] =
      /ok {2}logits of 24 tokens: relative error (\S+) \(bound (\S+)\)/.exec(stdout) ?? []
    expect(Number(error)).toBeLessThanOrEqual(Number(bound))
    expect(stdout).toMatch(/^ {2}space +\d+× {2}#\d+ \d+ %/m)
    expect(stdout).toMatch(/of 32 experts active/)
    expect(stdout).toMatch(/weights read per call .*× less/)
    expect(stdout).toMatch(
      /as GGUF, Q4_0 {2}4\.\d+ MB on disk.*, held-out loss \d\.\d{3} instead of \d\.\d{3}$/m,
    )
    expect(stdout).toMatch(/topK 1 +1\.0 +\d+ % +\d\.\d{3} +\+\d\.\d{3}/)

    const page = await readFile(html, 'utf8')
    expect(page.match(/<svg /g)).toHaveLength(4)
    expect(page).not.toMatch(/(?:src|href)=|@import|url\(/)
    // Once: a page is the same program whatever its numbers.
    if (browser !== undefined && device === drawn) await lookAt(html, 20)
  })
})

/** The demo's own page as a person sees it: one token marked in the text and in the map of each layer, and the experts beside the mark. */
async function lookAt(html: string, token: number) {
  const url = `${pathToFileURL(html)}#token=${token}`
  const screenshot = path.join(path.dirname(html), 'page.png')
  const { dom, errors } = await renderPage(url, { screenshot })
  expect(errors).toEqual([])
  expect(dom).toMatch(
    new RegExp(
      `token ${token}: ${[1, 2, 3, 4].map(layer => `layer ${layer} experts( \\d+){4}`).join(' · ')}<`,
    ),
  )
  const pixels = readPng(await readFile(screenshot))
  const [mark, expert] = [0xffd54a, 0x0b5fa5]
  const isMarked = (y: number) => pixelsOf(pixels, y).includes(mark)
  const [text, ...maps] = runs(pixels.height, isMarked)
  expect(text![1] - text![0]).toBeLessThan(40)
  expect(maps).toHaveLength(4)
  for (const [begin, end] of maps) {
    // 32 experts of 6 pixels, and the characters below.
    expect(end - begin).toBe(32 * 6 + 14)
    // Each layer's heaviest cell is drawn at full strength.
    expect(Array.from({ length: end - begin }, (_, y) => pixelsOf(pixels, begin + y)).flat()).toContain(
      expert,
    )
  }
}

function pixelsOf(pixels: Pixels, y: number): number[] {
  return Array.from({ length: pixels.width }, (_, x) => pixels.at(x, y))
}

/** Ranges [begin, end) in which a condition holds. */
function runs(length: number, holds: (at: number) => boolean): [begin: number, end: number][] {
  const found: [number, number][] = []
  for (let at = 0; at < length; at++) {
    if (!holds(at)) continue
    if (found.at(-1)?.[1] === at) found.at(-1)![1]++
    else found.push([at, at + 1])
  }
  return found
}

describe('the page', () => {
  const story: Story = {
    prompt: '<b>&"',
    texts: ['a', '', '</p><script>alert(1)</script>'],
    tokens: [97, 195, 60],
    layers: [
      {
        layer: 1,
        numExperts: 4,
        topK: 2,
        topkIds: Int32Array.of(0, 3, 3, -1, 2, 3),
        topkWeights: Float32Array.of(1, 0.5, 1.5, 0, 0.7, 0.8),
        work: { flops: 10, denseFlops: 40, weightBytes: 5, denseWeightBytes: 50 },
      },
    ],
    rows: 3,
    feedForwardMs: 1,
    totalMs: 2,
  }
  const page = storyPage(story)

  it('shows text as text', () => {
    expect(page).toContain('&lt;b&gt;&amp;&quot;')
    expect(page).not.toContain('<script>alert')
    expect(page.match(/<script>/g)).toHaveLength(1)
  })

  it.skipIf(browser === undefined)('marks a token in its text and its maps, in a real browser', async () => {
    const file = path.join(await temporaryDirectory(), 'page.html')
    await writeFile(file, page)
    const { dom, errors } = await renderPage(`${pathToFileURL(file)}#token=2`)
    expect(errors).toEqual([])
    // The script leaves the quotes of attributes as the document had them.
    expect(dom).toMatch(/<span data-token="2" class="marked">&lt;\/p&gt;/)
    expect(dom).toContain('token 2: layer 1 experts 2 3')
    expect(dom).toContain(`class="mark" x="${90 + 2 * 8}"`)
  })

  it('draws a cell for each selected expert and none for a dropped slot', () => {
    const cells = /<g class="cells">.*<\/g>/.exec(page)![0]
    expect(cells.match(/M\d+ \d+/g)).toHaveLength(5)
    expect(page).toContain('Layer 1: 3 of 4 experts, 2 per token')
    expect(page).toContain('<title>expert 3: 3 tokens</title>')
  })
})
