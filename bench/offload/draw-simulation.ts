/**
 * `npm run bench:simulate`: draws the hits of caches of ten sizes on a recorded routing, for each policy, with Belady's bound.
 *
 *   npm run bench:simulate -- TRACE --svg FILE [--tokens-per-call N]
 */

import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { readTrace, simulate } from '../harness/package.js'
import { hitRateChart, type SimulatedCache } from '../report/charts/hit-rate.js'
import { renderSvg } from '../report/render-svg.js'

const { values, positionals } = parseArgs({
  options: { svg: { type: 'string' }, 'tokens-per-call': { type: 'string' } },
  allowPositionals: true,
})
const [source] = positionals
const perCall = values['tokens-per-call']
const tokensPerCall = perCall === undefined ? undefined : Number(perCall)
if (source === undefined || values.svg === undefined) {
  console.error('Usage: npm run bench:simulate -- TRACE --svg FILE [--tokens-per-call N]')
  process.exit(2)
}
const trace = await readTrace(source)
const whole = trace.layers.reduce((sum, { numExperts, expertBytes }) => sum + numExperts * expertBytes, 0)
// Memory that does not hold the experts of one token runs no layer.
const least = Math.max(...trace.layers.map(({ numExperts, topK }) => Math.min(1, (topK + 1) / numExperts)))
const shares = Array.from({ length: 10 }, (_, i) => (i + 1) / 10).filter(share => share >= least)
const caches: SimulatedCache[] = []
for (const share of shares)
  for (const policy of ['lru', 'lfu', 'lfru'] as const) {
    const cache = { hostBytes: Math.ceil(share * whole), policy }
    caches.push({ share, simulation: await simulate(trace, { cache, tokensPerCall }) })
  }
const tokens = perCall === undefined ? 'calls as recorded' : `${perCall} token(s) a call`
const layers = `${trace.layers.length} layers, ${trace.layers[0]!.topK} of ${trace.layers[0]!.numExperts} experts a token`
writeFileSync(values.svg, await renderSvg(hitRateChart(caches, `${layers}; ${tokens}`).spec))
console.log(values.svg)
