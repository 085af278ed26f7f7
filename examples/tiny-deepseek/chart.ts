/** Charts as SVG text, in the colours and sizes that all of this example share. */

import { type ChartSpec, renderSvg } from '../../bench/report/render-svg.js'

const CONFIG = {
  background: 'white',
  font: 'sans-serif',
  axis: { gridColor: '#e6e6e6', labelFontSize: 11, titleFontSize: 12 },
  legend: { labelFontSize: 11, titleFontSize: 12 },
  point: { filled: true, size: 50 },
  range: { category: ['#0b5fa5', '#d1495b', '#2e8b57', '#edae49'] },
}

export const drawChart = (spec: ChartSpec): Promise<string> => renderSvg({ ...spec, config: CONFIG })
