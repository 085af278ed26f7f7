/**
 * `npm run bench:report`: draws the results of bench/results into docs/performance, those of bench/results/weights into weights.md and the newest
 * of bench/results/server into server.md there, and rewrites the README's table between its markers.
 * No figure on those pages is typed by hand.
 *
 *   npm run bench:report [-- --results DIRECTORY] [--out DIRECTORY]
 *
 * With --out the pages and pictures go there and the README is left alone.
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { collect, readAll } from '../goals/collect.js'
import { newestServerResults } from '../server/server-results.js'
import { expertsChart } from './charts/experts.js'
import { peersChart } from './charts/peers.js'
import { rooflineChart } from './charts/roofline.js'
import { serverChart } from './charts/server.js'
import { skewChart } from './charts/skew.js'
import type { Chart } from './charts/style.js'
import { threadsChart } from './charts/threads.js'
import { cpuPage } from './cpu-page.js'
import { replaceBetweenMarkers } from './readme-section.js'
import { renderSvg } from './render-svg.js'
import { serverPage } from './server-page.js'
import { glanceTable, README_CASES } from './tables.js'
import { weightsPage } from './weights-page.js'

const root = path.resolve(import.meta.dirname, '../..')
const { values: options } = parseArgs({
  options: {
    results: { type: 'string', default: path.join(root, 'bench/results') },
    out: { type: 'string' },
  },
})
const collected = collect(readAll(options.results))
const { newest, rows, peerRows, shares } = collected
if (!newest) {
  console.error(
    `No results in ${options.results}: 'npm run bench -- --json bench/results/NAME.json' makes them`,
  )
  process.exit(1)
}
const { machine } = collected
const drawn = [
  machine && rooflineChart(rows, machine),
  peersChart(peerRows),
  threadsChart(rows),
  machine && expertsChart(rows, machine),
  machine && skewChart(rows, machine),
].filter((chart): chart is Chart => chart !== null)

const server = newestServerResults(path.join(options.results, 'server'))
const servers = server && serverChart(server.results.rows)

const out = options.out ?? path.join(root, 'docs/performance')
mkdirSync(out, { recursive: true })
for (const { name, spec } of [...drawn, ...(servers ? [servers] : [])])
  writeFileSync(path.join(out, `${name}.svg`), await renderSvg(spec))
writeFileSync(path.join(out, 'cpu.md'), cpuPage(collected, drawn))
const weights = path.join(options.results, 'weights')
if (existsSync(weights)) writeFileSync(path.join(out, 'weights.md'), weightsPage(collect(readAll(weights))))
if (server && servers) writeFileSync(path.join(out, 'server.md'), serverPage(server, servers))
console.log(
  `${drawn.length + (servers ? 1 : 0)} pictures and the pages from ${collected.files.join(', ')} in ${out}`,
)

if (options.out === undefined) {
  const { cpu, architecture, cores } = newest.environment
  const content = [
    `${cpu} (${architecture}), ${cores} cores, ${newest.date.slice(0, 10)}; how it was measured, and everything else: [CPU performance](docs/performance/cpu.md).`,
    peerRows.length > 0 ? glanceTable(rows, peerRows, shares, README_CASES) : '',
  ]
  const readme = path.join(root, 'README.md')
  writeFileSync(readme, replaceBetweenMarkers(readFileSync(readme, 'utf8'), content.join('\n\n')))
}
