/** Charts as SVG text, drawn by Vega-Lite without a browser. */

import * as vega from 'vega'
import { compile, type TopLevelSpec } from 'vega-lite'

/** Colours and sizes that all charts share. */
const CONFIG: TopLevelSpec['config'] = {
  background: 'white',
  font: 'sans-serif',
  axis: { gridColor: '#e6e6e6', labelFontSize: 11, titleFontSize: 12 },
  legend: { labelFontSize: 11, titleFontSize: 12 },
  point: { filled: true, size: 50 },
  range: { category: ['#0b5fa5', '#d1495b', '#2e8b57', '#edae49'] },
}

export async function renderSvg(spec: TopLevelSpec): Promise<string> {
  const { spec: compiled } = compile({ ...spec, config: CONFIG } as TopLevelSpec)
  const view = new vega.View(vega.parse(compiled), { renderer: 'none' })
  try {
    return `${await view.toSVG()}\n`
  } finally {
    view.finalize()
  }
}
