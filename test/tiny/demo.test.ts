/** The default demo, whole: what it writes, checks, shows and puts on its page. */

import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
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
    // The experts' axis and the map of each of four layers, and a list of each of their experts' characters.
    expect(page.match(/<svg /g)).toHaveLength(2 * 4)
    expect(page.match(/<li><b>#\d+<\/b>/g)).toHaveLength(4 * 32)
    expect(page).toMatch(/<span class="chip"[^>]*>space <small>\d+\/\d+<\/small>/)
    expect(page).not.toMatch(/(?:src|href)=|@import|url\(/)
    // Once: a page is the same program whatever its numbers.
    if (browser !== undefined && device === drawn) await lookAt(html, 20)
  })
})

/** The demo's own page as a person sees it: one token marked in the text and in the map of each layer, and the experts beside the mark. */
async function lookAt(html: string, token: number) {
  const url = `${pathToFileURL(html)}#token=${token}`
  const screenshot = path.join(path.dirname(html), 'page.png')
  const { dom, errors } = await renderPage(url, { screenshot, height: 2000 })
  expect(errors).toEqual([])
  expect(dom).toMatch(
    new RegExp(
      `token ${token}: ${[1, 2, 3, 4].map(layer => `layer ${layer} experts( \\d+){4}`).join(' · ')}<`,
    ),
  )
  const pixels = readPng(await readFile(screenshot))
  const [mark, expert] = [0xffd54a, 0x0b5fa5]
  const isMarked = (y: number) => pixelsOf(pixels, y).includes(mark)
  const [text, legend, ...maps] = runs(pixels.height, isMarked)
  expect(text![1] - text![0]).toBeLessThan(40)
  expect(legend![1] - legend![0]).toBe(10)
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
