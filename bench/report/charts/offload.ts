import type { OffloadResults } from '../../offload/offload-results.js'
import { BASE, type Chart, title } from './style.js'

/** How near loads, calls and predictions come to what bounds them: 1 is the bound itself. */
export function offloadChart({ modelLoads, hits, fetches, predictions }: OffloadResults): Chart {
  const values = [
    ...modelLoads.map(({ layers, speed }) => ({
      what: `load of ${layers} layers, of a plain read`,
      ...speed,
    })),
    ...hits.map(({ numTokens, speed }) => ({
      what: `all experts found, ${numTokens} rows, of the resident layer`,
      ...speed,
    })),
    ...fetches.map(({ readers, speed }) => ({
      what: `experts read by ${readers}, of the reads alone`,
      ...speed,
    })),
    ...predictions.map(({ policy, share, ratio }) => ({
      ...{ what: `median call by simulate, ${policy} ${Math.round(100 * share)} %, of the measured` },
      ...{ median: ratio, low: ratio, high: ratio },
    })),
  ]
  const y = { field: 'what', type: 'nominal', sort: null, title: null, axis: { labelLimit: 320 } }
  const scale = { domain: [0, Math.max(1.2, ...values.map(({ high }) => high))] }
  return {
    name: 'offload',
    caption: 'Loads, cached calls and predictions beside what bounds them',
    spec: {
      ...BASE,
      title: title(
        'Experts larger than memory',
        'share of what bounds it; the line is the range of the rounds',
      ),
      data: { values },
      width: 360,
      layer: [
        {
          mark: { type: 'bar', height: 12 },
          encoding: { y, x: { field: 'median', type: 'quantitative', title: null, scale } },
        },
        {
          mark: { type: 'rule' },
          encoding: { y, x: { field: 'low', type: 'quantitative' }, x2: { field: 'high' } },
        },
        { mark: { type: 'rule', strokeDash: [4, 3] }, encoding: { x: { datum: 1 } } },
      ],
    },
  }
}
