/** What the pictures share: colours, type, points, axes, and which rows are models' layers. A disturbed cell is drawn hollow. */

import type { Row } from '../../harness/results.js'
import { isExpertSweep } from '../../harness/shapes.js'
import type { ChartSpec } from '../render-svg.js'

/** Okabe and Ito's colours, told apart by colour-blind readers. */
export const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000']

export const BASE = {
  $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
  background: 'white',
  padding: 12,
  config: {
    font: 'DejaVu Sans, Verdana, sans-serif',
    range: { category: COLOURS },
    axis: { labelFontSize: 11, titleFontSize: 11, titleFontWeight: 'normal', gridColor: '#e6e6e6' },
    legend: { labelFontSize: 11, titleFontSize: 11, titleFontWeight: 'normal', symbolStrokeWidth: 2 },
    header: { labelFontSize: 12, labelFontWeight: 'bold', title: null },
    title: { fontSize: 13, anchor: 'start', subtitleFontSize: 11, subtitleColor: '#555', offset: 12 },
    view: { stroke: '#cccccc' },
  },
} as const

/** Points of an encoding, and white inside those that were measured in company of other load. */
export function pointLayers<E extends { x: object; y: object }>(encoding: E, when = 'true') {
  const transform = [{ filter: when }]
  const { x, y } = encoding
  return [
    { transform, mark: { type: 'point' as const, filled: true, size: 44, opacity: 1 }, encoding },
    {
      transform,
      mark: { type: 'point' as const, filled: true, size: 16, color: 'white' },
      encoding: { x, y, opacity: { condition: { test: 'datum.disturbed', value: 1 }, value: 0 } },
    },
  ]
}

/** Powers of ten that an axis over these values labels and rules. */
export function decades(values: readonly number[]): number[] {
  const first = Math.floor(Math.log10(Math.min(...values)))
  const last = Math.ceil(Math.log10(Math.max(...values)))
  return Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i))
}

/**
 * Panels beside each other, at most `most`, so that the last row is full where that can be. Where it cannot, each panel has an axis of its
 * own: a shared one is drawn below places without a panel too.
 */
export function grid(count: number, most = 3) {
  const columns = [3, 2].find(number => number <= most && count % number === 0) ?? Math.min(count, most)
  const isFull = count % columns === 0
  return { columns, axis: { x: isFull ? ('shared' as const) : ('independent' as const) } }
}

/** Numbers of tokens have an order, and there may be more of them than there are colours to tell apart. */
export const tokensColour = (tokens: readonly string[]) => ({
  ...{ field: 'tokens', type: 'ordinal' as const, sort: [...tokens], title: null },
  scale: { scheme: 'viridis' as const, reverse: true },
})

export const title = (text: string, subtitle: string) => ({ text, subtitle })

/** A chart's file name without its ending, what it shows, and its specification. */
export interface Chart {
  name: string
  caption: string
  spec: ChartSpec
}

/** Whole layers of the models, on the CPU. */
export const layerRows = (rows: readonly Row[]) =>
  rows.filter(row => row.what === 'layer' && row.device === 'cpu' && !isExpertSweep(row))
/** Expert-parallel ranks are handed their ids. */
export const isGateless = (row: Row, rows: readonly Row[]) =>
  !rows.some(other => other.shape === row.shape && other.load === 'gate')
export const mostThreads = (rows: readonly Row[]) => Math.max(0, ...rows.map(row => row.threads))
