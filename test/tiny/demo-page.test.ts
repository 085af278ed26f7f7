/** The demo's page of a story made up here: what it says of it, and how it shows in a real browser. */

import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { storyPage } from '../../examples/demo/page.js'
import { byteLabel, preferences, type Reading } from '../../examples/demo/preferences.js'
import type { Story } from '../../examples/demo/story.js'
import { browser, renderPage } from '../helpers/browser.js'
import { removeDirectories, temporaryDirectory } from '../helpers/scratch.js'

if (browser === undefined) console.warn('skipped, no browser on PATH: the page in a real browser')

afterAll(removeDirectories)

const work = { flops: 10, denseFlops: 40, weightBytes: 5, denseWeightBytes: 50 }
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
      work,
    },
  ],
  rows: 3,
  feedForwardMs: 1,
  totalMs: 2,
}
/** 'a<a é' and a line end, in UTF-8. */
const reading: Reading = {
  bytes: [0x61, 0x3c, 0x61, 0x20, 0xc3, 0xa9, 0x0a],
  layers: [
    {
      layer: 1,
      numExperts: 4,
      topK: 2,
      topkIds: Int32Array.of(0, 3, 3, -1, 3, 0, 0, 2, 2, 3, 2, 3, 2, -1),
    },
  ],
}
const page = storyPage(story, reading)

async function shown(html: string, token: number | undefined, width = 1200) {
  const file = path.join(await temporaryDirectory(), 'page.html')
  await writeFile(file, html)
  const keep = process.env.SE_TEST_SCREENSHOTS
  const screenshot = keep && path.join(keep, `story-${width}.png`)
  const hash = token === undefined ? '' : `#token=${token}`
  return renderPage(`${pathToFileURL(file)}${hash}`, { width, ...(screenshot && { screenshot }) })
}

describe('the page', () => {
  it('shows text as text', () => {
    expect(page).toContain('&lt;b&gt;&amp;&quot;')
    expect(page).not.toContain('<script>alert')
    expect(page.match(/<script>/g)).toHaveLength(1)
  })

  it('draws a cell for each selected expert and none for a dropped slot', () => {
    const cells = /<g class="cells">.*<\/g>/.exec(page)![0]
    expect(cells.match(/M\d+ \d+/g)).toHaveLength(5)
    expect(page).toContain('Layer 1: 3 of 4 experts, 2 per token')
    expect(page).toContain('<title>expert 3: 3 tokens</title>')
  })

  it('says what stands on its axes and what its shades and bars mean', () => {
    expect(page).toMatch(/<text class="number"[^>]*>3 tokens<\/text>/)
    for (const number of ['>0</text>', 'weight 1.50']) expect(page).toContain(number)
    const legend = /<ul class="legend">[\s\S]*?<\/ul>/.exec(page)![0]
    expect(legend.match(/class="shade"/g)).toHaveLength(8)
    for (const words of ['routing weight', 'how many of the tokens', 'token that you chose'])
      expect(legend).toContain(words)
  })

  it('says which characters each expert takes most', () => {
    const list = /<ol class="preferences"[\s\S]*?<\/ol>/.exec(page)![0]
    const lines = [...list.matchAll(/<li>(.*)<\/li>/g)].map(([, line]) => line!.replace(/<[^>]*>/g, ''))
    expect(lines).toEqual([
      '#0 3 a 2/2 space 1/1',
      '#1 0 none',
      '#2 4 line end 1/1 space 1/1 byte A9 1/1 byte C3 1/1',
      '#3 5 a 2/2 &lt; 1/1 byte A9 1/1 byte C3 1/1',
    ])
  })

  it.skipIf(browser === undefined)('marks a token in its text and its maps, in a real browser', async () => {
    const { dom, errors } = await shown(page, 2)
    expect(errors).toEqual([])
    // The script leaves the quotes of attributes as the document had them.
    expect(dom).toMatch(/<span data-token="2" class="marked">&lt;\/p&gt;/)
    expect(dom).toContain('token 2: layer 1 experts 2 3')
    expect(dom).toContain(`class="mark" x="${2 * 8}"`)
  })

  /** Of a hundred experts and tokens, and a word that is longer than a phone is wide. */
  const large = () => {
    const [numExperts, topK, numTokens] = [100, 8, 300]
    const topkIds = Int32Array.from({ length: topK * numTokens }, (_, i) => (i * 37) % numExperts)
    const layer = { layer: 1, numExperts, topK, topkIds, topkWeights: new Float32Array(topkIds.length), work }
    const bytes = Array.from({ length: numTokens }, (_, i) => (i * 7) % 256)
    const texts = bytes.map(() => 'w')
    const wide: Story = { ...story, prompt: 'W'.repeat(80), texts, tokens: bytes, layers: [layer] }
    return storyPage(wide, { bytes, layers: [layer] })
  }

  it.skipIf(browser === undefined).each([320, 360, 1200])(
    'fits a window of %d pixels, in a real browser',
    async width => {
      const probe = `<script>
const visible = element => { const { left, right } = element.getBoundingClientRect(); return left >= 0 && right <= innerWidth }
const map = document.querySelector('.map')
document.body.dataset.seen = JSON.stringify({
  window: innerWidth, sideways: document.documentElement.scrollWidth - document.documentElement.clientWidth, mapScrolls: map.scrollWidth > map.clientWidth,
  mapWidth: map.clientWidth, outside: [...document.querySelectorAll('.chip, .legend li, .experts, .plot, h1, h2, .text')].filter(e => !visible(e)).length,
  least: Math.min(...[...document.querySelectorAll('body *')].filter(e => e.textContent.trim() !== '' && e.checkVisibility()).map(e => parseFloat(getComputedStyle(e).fontSize))),
})
</script></body>`
      const { dom, errors } = await shown(large().replace('</body>', probe), undefined, width)
      expect(errors).toEqual([])
      const seen = JSON.parse(/data-seen="([^"]*)"/.exec(dom)![1]!.replaceAll('&quot;', '"'))
      expect(seen).toMatchObject({ window: width, sideways: 0, mapScrolls: true, outside: 0 })
      // Most of the width is the map's, and no text is too small to read.
      expect(seen.mapWidth).toBeGreaterThan(width / 2)
      expect(seen.least).toBeGreaterThanOrEqual(10)
    },
  )
})

describe('which characters an expert takes', () => {
  it('names blanks, and bytes that are only a part of a character', () => {
    expect([0x41, 0x7e, 0x20, 0x09, 0x0a, 0x00, 0x7f, 0xc3].map(byteLabel)).toEqual([
      ...['A', '~', 'space', 'tab', 'line end', 'byte 00', 'byte 7F', 'byte C3'],
    ])
  })

  it('names at most as many as asked for, the most frequent first', () => {
    const topkIds = Int32Array.of(0, 0, 0, 1, 0)
    expect(
      preferences([5, 6, 6, 6, 7], { layer: 0, numExperts: 3, topK: 1, topkIds }, 2).map(
        ({ rows, favourites }) => [rows, ...favourites.map(({ byte }) => byte)],
      ),
    ).toEqual([[4, 6, 5], [1, 6], [0]])
  })
})
