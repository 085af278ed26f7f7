/**
 * One self-contained page of a story: per sparse layer a heat map of experts against tokens, above them the text. Drawn as SVG, so that it
 * shows without scripts; the script marks the token under the pointer in the text and in every map, and names its experts.
 */

import { formatBytes, formatFlops, formatRatio } from '../../lib/cli/format.js'
import { expertLoad, type Story, type StoryLayer } from './story.js'

/** Of one token and one expert, in pixels. */
const CELL = { width: 8, height: 6 }
/** Of the characters below a map. */
const TEXT_HEIGHT = 14
/** Of the bars of the experts' load, left of a map. */
const LOAD_WIDTH = 90

const escapeHtml = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')

/** The whole document. */
export function storyPage(story: Story): string {
  const sum = (key: keyof StoryLayer['work']) =>
    story.layers.reduce((total, { work }) => total + work[key], 0)
  const saved = [
    `${formatFlops(sum('flops'))} of ${formatFlops(sum('denseFlops'))} (${formatRatio(sum('denseFlops') / sum('flops'))} less)`,
    `${formatBytes(sum('weightBytes'))} of ${formatBytes(sum('denseWeightBytes'))} of weights read`,
  ]
  const experts = story.layers.map(({ layer, topK, topkIds }) => ({ layer, topK, ids: [...topkIds] }))
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Which experts wrote it</title>
<style>${STYLE}</style>
</head>
<body>
<h1>Which experts wrote it</h1>
<p>${story.tokens.length} tokens (bytes), ${story.layers.length} sparse layers; ${saved.join(', ')}.</p>
<p class="text"><span class="prompt">${escapeHtml(story.prompt)}</span>${story.texts.map(tokenSpan).join('')}</p>
<p id="about" aria-live="polite">Point at a character or a map.</p>
${story.layers.map(layer => heatMap(layer, story.texts)).join('\n')}
<script>
const layers = ${JSON.stringify(experts)}
const cellWidth = ${CELL.width}
const loadWidth = ${LOAD_WIDTH}
${SCRIPT}
</script>
</body>
</html>
`
}

function tokenSpan(text: string, token: number): string {
  return text === '' ? '' : `<span data-token="${token}">${escapeHtml(text)}</span>`
}

/** Load bars, then a cell per token and selected expert, the darker the larger its weight; below, the token that they wrote. */
function heatMap(part: StoryLayer, texts: readonly string[]): string {
  const { layer, numExperts, topK, topkIds, topkWeights } = part
  const numTokens = topkIds.length / topK
  const load = expertLoad(part)
  const busiest = Math.max(1, ...load)
  const largest = topkWeights.reduce((a, b) => Math.max(a, b), Number.MIN_VALUE)
  const width = LOAD_WIDTH + numTokens * CELL.width
  const height = numExperts * CELL.height + TEXT_HEIGHT
  const bars = Array.from(load, (count, expert) => {
    const length = ((LOAD_WIDTH - 8) * count) / busiest
    return `<rect x="${(LOAD_WIDTH - 4 - length).toFixed(1)}" y="${expert * CELL.height}" width="${length.toFixed(1)}" height="${CELL.height - 1}"><title>expert ${expert}: ${count} tokens</title></rect>`
  })
  // One path per strength: a few hundred bytes instead of an element per cell.
  const paths: string[] = Array.from({ length: STRENGTHS }, () => '')
  topkIds.forEach((expert, slot) => {
    if (expert < 0) return
    const strength = Math.min(STRENGTHS - 1, Math.floor((topkWeights[slot]! / largest) * STRENGTHS))
    const x = LOAD_WIDTH + Math.floor(slot / topK) * CELL.width
    paths[strength] += `M${x} ${expert * CELL.height}h${CELL.width - 1}v${CELL.height - 1}h${1 - CELL.width}z`
  })
  const cells = paths.map(
    (path, strength) => `<path fill-opacity="${((strength + 1) / STRENGTHS).toFixed(2)}" d="${path}"/>`,
  )
  const active = load.reduce((count, tokens) => count + (tokens > 0 ? 1 : 0), 0)
  return `<section>
<h2>Layer ${layer}: ${active} of ${numExperts} experts, ${topK} per token</h2>
<div class="map"><svg role="img" aria-label="Experts of layer ${layer} by token" width="${width}" height="${height}" data-layer="${layer}">
<g class="load">${bars.join('')}</g>
<rect class="mark" x="-20" y="0" width="${CELL.width}" height="${height}"/>
<g class="cells">${cells.join('')}</g>
${characterRow(texts, height - 3)}
</svg></div>
</section>`
}

/** One text element with a place for each character; what is no single visible character leaves its place empty. */
function characterRow(texts: readonly string[], y: number): string {
  const characters = texts.map(text => (/^[\x21-\x7e]$/.test(text) ? text : '\u00a0'))
  const places = characters.map((_, token) => LOAD_WIDTH + (token + 0.5) * CELL.width - 0.5)
  return `<text class="characters" y="${y}" x="${places.join(' ')}">${escapeHtml(characters.join(''))}</text>`
}

const STRENGTHS = 8

const STYLE = `
:root { color-scheme: light dark; --ink: light-dark(#1b1b1b, #e8e8e8); --paper: light-dark(#fff, #161616); --expert: light-dark(#0b5fa5, #6cb8ff); --mark: light-dark(#ffd54a, #7a5c00) }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto; max-width: 1100px; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1rem; margin-bottom: .3rem }
.text { font: 16px/1.6 ui-monospace, monospace; white-space: pre-wrap }
.prompt { opacity: .55 }
.text span.marked { background: var(--mark) }
.map { overflow-x: auto; border: 1px solid color-mix(in srgb, var(--ink) 20%, transparent) }
svg { display: block } .cells, .load { fill: var(--expert) } .load { opacity: .5 } .mark { fill: var(--mark) }
.characters { font: 11px ui-monospace, monospace; text-anchor: middle; fill: var(--ink) }
#about { min-height: 1.5em; position: sticky; top: 0; background: var(--paper) }
`

const SCRIPT = `
const about = document.getElementById('about')
const spans = new Map([...document.querySelectorAll('[data-token]')].map(span => [Number(span.dataset.token), span]))
function mark(token) {
  if (!(token >= 0 && token * layers[0].topK < layers[0].ids.length)) return
  for (const span of spans.values()) span.classList.remove('marked')
  spans.get(token)?.classList.add('marked')
  for (const rect of document.querySelectorAll('.mark')) rect.setAttribute('x', loadWidth + token * cellWidth)
  about.textContent = 'token ' + token + ': ' + layers
    .map(({ layer, topK, ids }) => 'layer ' + layer + ' experts ' + ids.slice(token * topK, (token + 1) * topK).filter(id => id >= 0).join(' '))
    .join(' · ')
}
// A page opened at #token=12 begins with that token marked.
const asked = /^#token=(\\d+)$/.exec(location.hash)
if (asked) mark(Number(asked[1]))
for (const [token, span] of spans) span.addEventListener('pointerenter', () => mark(token))
// All maps show the same tokens.
const maps = [...document.querySelectorAll('.map')]
for (const map of maps) map.addEventListener('scroll', () => {
  for (const other of maps) if (other.scrollLeft !== map.scrollLeft) other.scrollLeft = map.scrollLeft
})
for (const svg of document.querySelectorAll('svg')) {
  svg.addEventListener('pointermove', event => {
    mark(Math.floor((event.clientX - svg.getBoundingClientRect().left - loadWidth) / cellWidth))
  })
}
`
