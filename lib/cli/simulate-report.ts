/** What `sparse-experts simulate` prints. */

import type { Trace } from '../trace/trace.js'
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatPercent,
  type Paint,
  plural,
  table,
} from './format.js'
import type { SimulatedRow } from './simulate-rows.js'

/** Memory of all experts of all layers. */
export const expertBytesOf = ({ layers }: Trace): number =>
  layers.reduce((sum, { numExperts, expertBytes }) => sum + numExperts * expertBytes, 0)

export function renderSimulations(
  trace: Trace,
  rows: readonly SimulatedRow[],
  { isOwnProfile }: { isOwnProfile: boolean },
  paint: Paint,
): string[] {
  const [first] = rows as [SimulatedRow]
  const hasTimes = first.simulation.secondsPerCall !== null
  const hasPrefetch = rows.some(({ simulation }) => simulation.prefetched > 0)
  const columns = {
    hasHost: rows.some(({ memory }) => 'deviceBytes' in memory),
    hasPrefetch,
    hasTimes,
  }
  const header = [
    'cache',
    'stay',
    ...(columns.hasHost ? ['host', 'stay there'] : []),
    'policy',
    'hits',
    'hit rate',
    ...(columns.hasHost ? ['host has'] : []),
    'read per call',
    ...(hasPrefetch ? ['read ahead', 'of it used'] : []),
    ...(hasTimes ? ['p50', 'p99', 'bound by'] : []),
  ]
  const lines = rows.map(row => line(row, columns))
  const alignment = `rr${columns.hasHost ? 'rr' : ''}lrr${columns.hasHost ? 'r' : ''}r${hasPrefetch ? 'rr' : ''}rrl`
  const perLayer = [...new Set(trace.layers.map(({ numExperts, topK }) => `${topK} of ${numExperts}`))].join(
    ', ',
  )
  return [
    paint.bold(
      `${plural(trace.layers.length, 'layer')} (${perLayer} experts a token), ${formatBytes(expertBytesOf(trace))} of experts, ` +
        `${plural(first.simulation.calls, 'call')} of ${plural(first.simulation.rows, 'row')}`,
    ),
    '',
    ...table([header.map(text => paint.dim(text)), ...lines], alignment),
    ...(isOwnProfile
      ? [
          '',
          paint.dim(
            'static holds the experts that this very trace met most; on other text it has fewer hits (--profile)',
          ),
        ]
      : []),
  ]
}

function line(
  { name, memory, simulation }: SimulatedRow,
  { hasHost, hasPrefetch, hasTimes }: Record<'hasHost' | 'hasPrefetch' | 'hasTimes', boolean>,
): string[] {
  const { slots, hostSlots, hostHits, calls, belady, secondsPerCall, boundBy } = simulation
  const { prefetched, prefetchUsed, prefetchedBytes } = simulation
  const [bytes, hostBytes] =
    'deviceBytes' in memory ? [memory.deviceBytes, memory.hostBytes] : [memory.hostBytes]
  const perCall = (bytes: number) => formatBytes(calls === 0 ? 0 : bytes / calls)
  const ahead = [perCall(prefetchedBytes), formatPercent(prefetched === 0 ? 0 : prefetchUsed / prefetched)]
  const isBound = name === 'belady'
  const { hits, hitRate, readBytes } = isBound ? belady : simulation
  const times = secondsPerCall && !isBound ? [secondsPerCall.p50, secondsPerCall.p99] : []
  return [
    formatBytes(bytes!),
    formatCount(slots),
    ...(hasHost ? [formatBytes(hostBytes ?? 0), formatCount(hostSlots)] : []),
    name,
    formatCount(hits),
    formatPercent(hitRate),
    ...(hasHost ? [isBound ? '' : formatCount(hostHits)] : []),
    perCall(readBytes),
    ...(hasPrefetch ? (isBound ? ['', ''] : ahead) : []),
    ...times.map(seconds => formatDuration(seconds * 1000)),
    ...(hasTimes ? (isBound ? ['', '', ''] : [boundBy ?? '']) : []),
  ]
}
