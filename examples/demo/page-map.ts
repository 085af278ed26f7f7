/** The heat map of one layer: experts from top to bottom, tokens from left to right, and left of it how many tokens each expert took. */

import { escapeHtml } from './page-text.js'
import { expertLoad, type StoryLayer } from './story.js'

/** Of one token and one expert, in pixels. */
export const CELL = { width: 8, height: 6 }
/** Above the cells: the tokens' numbers. */
const HEAD = 16
/** Below them: the tokens' characters. */
const FOOT = 14
/** Left of the cells: the experts' numbers, then bars of their load. They stay where they are while the map scrolls. */
const NUMBERS = 22
const BARS = 72
/** Shades of a cell. */
const STRENGTHS = 8
/** Every so many tokens and experts are numbered. */
const TOKENS_PER_NUMBER = 10
const EXPERTS_PER_NUMBER = 4

/** Opacity of the cells from the least weight to the largest. */
const OPACITIES = Array.from({ length: STRENGTHS }, (_, strength) => (strength + 1) / STRENGTHS)

/** What the signs of the maps mean, as a list. */
export function mapLegend(): string {
  const shades = OPACITIES.map(opacity => `<i class="shade" style="opacity:${opacity.toFixed(2)}"></i>`)
  return `<ul class="legend">
<li>routing weight of an expert for a token: small ${shades.join('')} large</li>
<li><i class="bar"></i> how many of the tokens an expert took</li>
<li><i class="chosen"></i> the token that you chose</li>
</ul>`
}

/** One layer's map with its axes, under a heading. */
export function layerMap(part: StoryLayer, texts: readonly string[]): string {
  const { layer, numExperts, topK, topkIds, topkWeights } = part
  const load = expertLoad(part)
  const largest = topkWeights.reduce((a, b) => Math.max(a, b), 0)
  const size = { width: (topkIds.length / topK) * CELL.width, height: HEAD + numExperts * CELL.height + FOOT }
  const active = load.reduce((count, tokens) => count + (tokens > 0 ? 1 : 0), 0)
  return `<section>
<h2>Layer ${layer}: ${active} of ${numExperts} experts, ${topK} per token</h2>
<p class="note">Experts from top to bottom, tokens from left to right. Darkest: weight ${largest.toFixed(2)}.</p>
<div class="plot">
${loadBars(load, size.height)}
<div class="map"><svg role="img" aria-label="Experts of layer ${layer} by token" width="${size.width}" height="${size.height}" data-layer="${layer}">
<rect class="mark" x="${-CELL.width}" y="${HEAD}" width="${CELL.width}" height="${size.height - HEAD}"/>
<g class="axis">${tokenNumbers(size.width / CELL.width)}</g>
<g class="cells">${cells(part, largest)}</g>
${characterRow(texts, size.height - 3)}
</svg></div>
</div>
</section>`
}

/** The vertical axis: experts' numbers, and bars as long as their share of the busiest expert's tokens, whose number stands above. */
function loadBars(load: Int32Array, height: number): string {
  const busiest = load.reduce((a, b) => Math.max(a, b), 0)
  const bars = Array.from(load, (count, expert) => {
    const [y, length] = [HEAD + expert * CELL.height, (BARS * count) / Math.max(1, busiest)]
    return `<rect x="${NUMBERS}" y="${y}" width="${length.toFixed(1)}" height="${CELL.height - 1}"><title>expert ${expert}: ${count} tokens</title></rect>`
  })
  const numbers: string[] = []
  for (let expert = 0; expert < load.length; expert += EXPERTS_PER_NUMBER) {
    const middle = HEAD + (expert + 0.5) * CELL.height
    numbers.push(`<text class="number" x="${NUMBERS - 4}" y="${middle + 3}">${expert}</text>`)
  }
  const width = NUMBERS + BARS + 4
  return `<svg role="img" aria-label="Tokens of each expert" class="experts" width="${width}" height="${height}">
<g class="axis"><text x="${NUMBERS}" y="10">0</text><text class="number" x="${NUMBERS + BARS}" y="10">${busiest} tokens</text>${numbers.join('')}<path d="M${NUMBERS - 1} ${HEAD}V${height - FOOT}"/></g>
<g class="load">${bars.join('')}</g>
</svg>`
}

/** The horizontal axis. */
function tokenNumbers(numTokens: number): string {
  const numbers: string[] = []
  for (let token = 0; token < numTokens; token += TOKENS_PER_NUMBER) {
    const x = token * CELL.width
    numbers.push(
      `<path d="M${x + 0.5} ${HEAD - 1}v${-(HEAD - 3)}"/><text x="${x + 3}" y="10">${token}</text>`,
    )
  }
  return numbers.join('')
}

/** A cell per token and selected expert. One path per shade: a few hundred bytes instead of an element per cell. */
function cells({ topK, topkIds, topkWeights }: StoryLayer, largest: number): string {
  const paths: string[] = Array.from({ length: STRENGTHS }, () => '')
  topkIds.forEach((expert, slot) => {
    if (expert < 0) return
    const share = largest > 0 ? topkWeights[slot]! / largest : 0
    const strength = Math.min(STRENGTHS - 1, Math.floor(share * STRENGTHS))
    const [x, y] = [Math.floor(slot / topK) * CELL.width, HEAD + expert * CELL.height]
    paths[strength] += `M${x} ${y}h${CELL.width - 1}v${CELL.height - 1}h${1 - CELL.width}z`
  })
  return paths
    .map((path, strength) => `<path fill-opacity="${OPACITIES[strength]!.toFixed(2)}" d="${path}"/>`)
    .join('')
}

/** One text element with a place for each character; what is no single visible character leaves its place empty. */
function characterRow(texts: readonly string[], y: number): string {
  const characters = texts.map(text => (/^[\x21-\x7e]$/.test(text) ? text : '\u00a0'))
  const places = characters.map((_, token) => (token + 0.5) * CELL.width - 0.5)
  return `<text class="characters" y="${y}" x="${places.join(' ')}">${escapeHtml(characters.join(''))}</text>`
}
