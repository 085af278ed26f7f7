/**
 * One self-contained page of a story: the text, per sparse layer a heat map of experts against tokens, and which characters each expert takes
 * most of another text. Drawn as SVG and HTML, so that it shows without scripts; the script marks the token that is pointed at or tapped, in
 * the text and in every map, and names its experts. It fits a window of 360 pixels: only the maps scroll sideways, within their frames.
 */

import { formatBytes, formatFlops, formatRatio } from '../../lib/cli/format.js'
import { CELL, layerMap, mapLegend } from './page-map.js'
import { escapeHtml } from './page-text.js'
import { byteLabel, type Favourite, preferences, type Reading, type RoutedLayer } from './preferences.js'
import type { Story, StoryLayer } from './story.js'

/** Characters named for each expert. */
const FAVOURITES = 6

/**
 * The whole document.
 *
 * @param reading the text of the lists of characters, longer than the story, so that counts say something
 */
export function storyPage(story: Story, reading: Reading): string {
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
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Which experts wrote it</title>
<style>${STYLE}</style>
</head>
<body>
<h1>Which experts wrote it</h1>
<p>${story.tokens.length} tokens (bytes), ${story.layers.length} sparse layers; ${saved.join(', ')}.</p>
<p class="text"><span class="prompt">${escapeHtml(story.prompt)}</span>${story.texts.map(tokenSpan).join('')}</p>
<p id="about" aria-live="polite">Point at a character or a map, or tap it.</p>
${mapLegend()}
${story.layers.map(layer => layerMap(layer, story.texts)).join('\n')}
<h1>Which expert takes which characters</h1>
<p class="note">Of ${reading.bytes.length} bytes of a text that training never saw, the ${FAVOURITES} characters that each expert worked on most. “e 12/30”: on 12 of the 30 e in that text; the darker, the larger this share. After an expert’s number stand the bytes that it worked on.</p>
${reading.layers.map(layer => preferenceList(reading.bytes, layer)).join('\n')}
<script>
const layers = ${JSON.stringify(experts)}
const cellWidth = ${CELL.width}
${SCRIPT}
</script>
</body>
</html>
`
}

function tokenSpan(text: string, token: number): string {
  return text === '' ? '' : `<span data-token="${token}">${escapeHtml(text)}</span>`
}

/** Every expert of a layer with its characters. */
function preferenceList(bytes: readonly number[], layer: RoutedLayer): string {
  const items = preferences(bytes, layer, FAVOURITES).map(
    ({ expert, rows, favourites }) =>
      `<li><b>#${expert}</b> <small>${rows}</small> ${favourites.map(characterChip).join(' ') || 'none'}</li>`,
  )
  return `<section>
<h2>Layer ${layer.layer}</h2>
<ol class="preferences" data-layer="${layer.layer}">
${items.join('\n')}
</ol>
</section>`
}

function characterChip({ byte, taken, occurrences }: Favourite): string {
  const percent = Math.round((100 * taken) / occurrences)
  return `<span class="chip" style="--share:${percent}%">${escapeHtml(byteLabel(byte))} <small>${taken}/${occurrences}</small></span>`
}

const STYLE = `
:root { color-scheme: light dark; --ink: light-dark(#1b1b1b, #e8e8e8); --paper: light-dark(#fff, #161616); --expert: light-dark(#0b5fa5, #6cb8ff); --mark: light-dark(#ffd54a, #7a5c00) }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 1rem auto; max-width: 1100px; padding: 0 .75rem }
h1 { font-size: 1.4rem; margin: 1.5rem 0 .5rem } h2 { font-size: 1rem; margin: 1.2rem 0 .2rem }
.note { margin: .2rem 0 .4rem; font-size: .85rem; opacity: .8 }
.text { font: 16px/1.6 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere }
.prompt { opacity: .55 }
.text span.marked { background: var(--mark) }
#about { min-height: 1.5em; position: sticky; top: 0; z-index: 1; margin: 0; padding: .3rem 0; background: var(--paper) }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.5rem; margin: .5rem 0; padding: 0; list-style: none; font-size: .85rem }
.legend i { display: inline-block; height: 10px; width: 10px; vertical-align: -1px }
.shade { background: var(--expert) } .legend .bar { width: 28px; background: var(--expert); opacity: .5 } .chosen { background: var(--mark) }
.plot { display: flex; border: 1px solid color-mix(in srgb, var(--ink) 20%, transparent) }
.map { overflow-x: auto; min-width: 0; flex: 1 }
svg { display: block; flex: none } .cells, .load { fill: var(--expert) } .load { opacity: .5 } .mark { fill: var(--mark) }
.axis { font: 10px system-ui, sans-serif; fill: var(--ink) } .axis path { stroke: var(--ink); opacity: .35; fill: none } .number { text-anchor: end }
.characters { font: 11px ui-monospace, monospace; text-anchor: middle; fill: var(--ink) }
.preferences { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(21rem, 100%), 1fr)); gap: .25rem 1rem; margin: 0; padding: 0; list-style: none }
.preferences small { opacity: .75 }
.chip { display: inline-block; padding: 0 .35em; border-radius: .3em; white-space: nowrap; background: color-mix(in srgb, var(--expert) calc(var(--share) / 2), transparent) }
`

const SCRIPT = `
const about = document.getElementById('about')
const spans = new Map([...document.querySelectorAll('[data-token]')].map(span => [Number(span.dataset.token), span]))
function mark(token) {
  if (!(token >= 0 && token * layers[0].topK < layers[0].ids.length)) return
  for (const span of spans.values()) span.classList.remove('marked')
  spans.get(token)?.classList.add('marked')
  for (const rect of document.querySelectorAll('.mark')) rect.setAttribute('x', token * cellWidth)
  about.textContent = 'token ' + token + ': ' + layers
    .map(({ layer, topK, ids }) => 'layer ' + layer + ' experts ' + ids.slice(token * topK, (token + 1) * topK).filter(id => id >= 0).join(' '))
    .join(' · ')
}
// A page opened at #token=12 begins with that token marked.
const asked = /^#token=(\\d+)$/.exec(location.hash)
if (asked) mark(Number(asked[1]))
// A finger that taps comes down without having moved over anything.
for (const [token, span] of spans)
  for (const kind of ['pointerenter', 'pointerdown']) span.addEventListener(kind, () => mark(token))
// All maps show the same tokens.
const maps = [...document.querySelectorAll('.map')]
for (const map of maps) map.addEventListener('scroll', () => {
  for (const other of maps) if (other.scrollLeft !== map.scrollLeft) other.scrollLeft = map.scrollLeft
})
for (const svg of document.querySelectorAll('.map svg'))
  for (const kind of ['pointermove', 'pointerdown']) svg.addEventListener(kind, event => {
    mark(Math.floor((event.clientX - svg.getBoundingClientRect().left) / cellWidth))
  })
`
