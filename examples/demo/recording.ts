/**
 * A picture of the text as the demo writes it: line after line, beside each how often every expert of one layer was chosen for its tokens.
 * SVG with an animation in CSS, which pages show in an image; without animations all lines are there.
 */

import type { WrittenLine } from './live-text.js'

export interface RecordedModel {
  numExperts: number
  topK: number
  prompt: string
}

/** In pixels. */
const LINE = 22
const LEFT = 20
const TOP = 56
/** Advance of a character of 14 pixels in most monospaced fonts; the text is set to it. */
const CHARACTER = 8.4
const COLUMNS = 48
const CELL = 9
const GAP = 24
/** Of the longest of the notes above and below the experts. */
const NOTE_WIDTH = 330
const SECONDS_PER_LINE = 0.9

const escapeXml = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')

/** @param lines those with text, from the first; the prompt is set in another colour */
export function recordingSvg(lines: readonly WrittenLine[], model: RecordedModel): string {
  const shown = lines.filter(({ text }) => text.trim() !== '').slice(0, 10)
  const mapLeft = LEFT + COLUMNS * CHARACTER + GAP
  const width = Math.ceil(mapLeft + Math.max(model.numExperts * CELL, NOTE_WIDTH) + LEFT)
  const bottom = TOP + shown.length * LINE
  const rows = shown.map((line, index) => {
    const y = TOP + index * LINE
    return `<g class="line" style="animation-delay:${(index * SECONDS_PER_LINE).toFixed(1)}s">${lineText(line.text, index === 0 ? model.prompt : '', y + 15)}${cells(line, mapLeft, y + 3)}</g>`
  })
  const last = model.numExperts - 1
  return `<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" viewBox="0 0 ${width} ${bottom + 40}" width="${width}" height="${bottom + 40}" role="img" aria-label="A small sparse model writes; beside each line the experts that wrote it">
<style>
svg { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: #14171c }
text { fill: #e6e6e6; white-space: pre } .dim { fill: #8b949e } .note { fill: #8b949e; font-size: 12px } .cell { fill: #58a6ff }
.line { animation: appear .5s ease-out backwards }
@keyframes appear { from { opacity: 0 } }
@media (prefers-reduced-motion: reduce) { .line { animation: none } }
</style>
<rect width="100%" height="100%" rx="8" fill="#14171c"/>
<text x="${LEFT}" y="30"><tspan class="dim">$ </tspan>npm run demo</text>
<text class="note" x="${mapLeft}" y="30">${model.topK} of ${model.numExperts} experts per token, expert #0 … #${last}</text>
${rows.join('\n')}
<text class="note" x="${LEFT}" y="${bottom + 24}">the text after its beginning in grey is the model’s</text>
<text class="note" x="${mapLeft}" y="${bottom + 24}">brighter: chosen for more tokens of the line</text>
</svg>
`
}

function lineText(text: string, prompt: string, y: number): string {
  const ofPrompt = text.startsWith(prompt) ? prompt : ''
  const rest = text.slice(ofPrompt.length)
  const length = `textLength="${(text.length * CHARACTER).toFixed(1)}"`
  const beginning = ofPrompt === '' ? '' : `<tspan class="dim">${escapeXml(ofPrompt)}</tspan>`
  return `<text x="${LEFT}" y="${y}" ${length}>${beginning}${escapeXml(rest)}</text>`
}

function cells({ load }: WrittenLine, left: number, y: number): string {
  const most = Math.max(1, ...load)
  return Array.from(load, (count, expert) => {
    const opacity = (0.08 + 0.92 * (count / most)).toFixed(2)
    return `<rect class="cell" x="${(left + expert * CELL).toFixed(1)}" y="${y}" width="${CELL - 2}" height="${LINE - 6}" opacity="${opacity}"/>`
  }).join('')
}
