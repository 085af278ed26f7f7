/** Calls of a layer with a cache beside what bounds them: the layer that is whole in memory, and the same reads alone. */

import { open } from 'node:fs/promises'
import path from 'node:path'
import { readSafetensorsHeader } from '../../lib/checkpoint/safetensors.js'
import { formatByteRate, formatBytes, formatDuration, formatNumber } from '../../lib/cli/format.js'
import { contestantOf } from '../goals/load.js'
import { isDisturbed, watchLoad } from '../harness/other-load.js'
import { MoeLayer } from '../harness/package.js'
import { disturbance } from '../harness/result-lines.js'
import { median, type Ratio, ratioOf, runRounds } from '../harness/rounds.js'
import { openMappedReads } from './mapped-reads.js'
import { expertBytesOf, type OffloadCheckpoint, Rows } from './offload-checkpoint.js'
import { type ByteRange, RawFiles } from './raw-reads.js'

interface Measured {
  foreignCores: number | null
  disturbed: boolean
}

/** Calls whose experts are all in the cache. */
export interface HitRow extends Measured {
  shape: string
  numTokens: number
  /** Medians. */
  cachedMs: number
  residentMs: number
  /** Time of the resident layer over ours: the goal is 0.98. */
  speed: Ratio
}

export async function measureHits(
  { source, shape }: OffloadCheckpoint,
  numTokens: number,
  rounds: number,
): Promise<HitRow> {
  const load = (cache?: { hostBytes: number }) => MoeLayer.load(source, { layer: 0, device: 'cpu', cache })
  using resident = await load()
  using cached = await load({ hostBytes: Number.MAX_SAFE_INTEGER })
  const inputs = Array.from({ length: 16 }, (_, i) => new Rows(resident, i).fresh(numTokens))
  for (const input of inputs) await cached.forward(input)
  const missesBefore = cached.stats().cache!.misses
  const callsOf = (layer: MoeLayer) => {
    let call = 0
    return contestantOf(async () => {
      const began = performance.now()
      await layer.forward(inputs[call++ % inputs.length]!)
      return performance.now() - began
    })
  }
  const watch = watchLoad()
  const [ours, theirs] = await runRounds([callsOf(cached), callsOf(resident)], numTokens, {
    ...{ rounds, blockMs: 150 },
  })
  const foreignCores = watch.stop()
  if (cached.stats().cache!.misses !== missesBefore) throw new Error('a call missed an expert')
  return {
    ...{ shape: shape.name, numTokens },
    ...{ cachedMs: median(ours!.rounds), residentMs: median(theirs!.rounds) },
    speed: ratioOf(theirs!.rounds, ours!.rounds),
    ...{ foreignCores, disturbed: isDisturbed(foreignCores) },
  }
}

export const hitLine = (row: HitRow): string =>
  `all hit ${row.shape} T=${row.numTokens}: ${formatDuration(row.cachedMs)}, resident ${formatDuration(row.residentMs)}: ` +
  `${formatNumber(row.speed.median)} of its speed (goal 0.98)${disturbance(row)}`

/** Calls that wait for reads. */
export interface FetchRow extends Measured {
  shape: string
  readers: number
  directIo: boolean
  bytesPerCall: number
  /** Medians: a call, the same bytes read alone, and as many touched in mapped files by as many threads. */
  callMs: number
  readMs: number
  mappedMs: number
  /** Bytes of the memory group that all of it ran in; null: the whole machine's. */
  memoryBytes: number | null
  /** Time of the reads alone over ours: the goal is 0.9. */
  speed: Ratio
  /** Time of the mapped files over ours. */
  mappedRatio: Ratio
  /** Processor time of the process for a GB of experts, arithmetic included: the goal is 0.25. */
  cpuSecondsPerGB: number
}

export async function measureFetches(
  checkpoint: OffloadCheckpoint,
  readers: number,
  rounds: number,
  memoryBytes: number | null,
): Promise<FetchRow> {
  const { source, shape } = checkpoint
  const { topK } = shape.config
  const load = (hostBytes: number) =>
    MoeLayer.load(source, { layer: 0, device: 'cpu', cache: { hostBytes, readers } })
  const expertBytes = await expertBytesOf(checkpoint)
  using layer = await load((topK + 1) * expertBytes)
  const experts = await expertRanges(checkpoint)
  const files = [...new Set(experts.flat().map(({ file }) => file))]
  const raw = new RawFiles(files, readers, Math.max(...experts.flat().map(({ bytes }) => bytes)))
  const mapped = openMappedReads(readers)
  try {
    const rows = new Rows(layer, 1)
    // Few rows that need nearly all experts: much to read, little to compute.
    const hidden = () => rows.fresh(Math.ceil(shape.config.numExperts / topK))
    let [calls, bytes, cpuMicros] = [0, 0, 0]
    let reads: ByteRange[] = []
    const ours = contestantOf(async () => {
      const input = hidden()
      const cpu = process.cpuUsage()
      const before = layer.stats().cache!
      const began = performance.now()
      await layer.forward(input)
      const ms = performance.now() - began
      const after = layer.stats().cache!
      const { user, system } = process.cpuUsage(cpu)
      calls++
      cpuMicros += user + system
      bytes += after.bytesRead - before.bytesRead
      // As many experts alone as the call has read.
      reads = experts.slice(0, after.misses - before.misses).flat()
      return ms
    })
    const alone = contestantOf(() => raw.times(reads))
    const peer = contestantOf(() => mapped.times(reads))
    const watch = watchLoad(() => mapped.cpuMs())
    const [called, read, touched] = await runRounds([ours, alone, peer], 0, { rounds, blockMs: 400 })
    const foreignCores = watch.stop()
    return {
      ...{ shape: shape.name, readers, directIo: layer.stats().cache!.directIo, memoryBytes },
      bytesPerCall: bytes / calls,
      ...{ callMs: median(called!.rounds), readMs: median(read!.rounds) },
      ...{ mappedMs: median(touched!.rounds), mappedRatio: ratioOf(touched!.rounds, called!.rounds) },
      speed: ratioOf(read!.rounds, called!.rounds),
      cpuSecondsPerGB: cpuMicros / 1e6 / (bytes / 1e9),
      ...{ foreignCores, disturbed: isDisturbed(foreignCores) },
    }
  } finally {
    raw.close()
    mapped.close()
  }
}

export const fetchLine = (row: FetchRow): string =>
  `fetch-bound ${row.shape}, ${row.readers} readers${row.directIo ? '' : ', through the page cache'}: ${formatBytes(row.bytesPerCall)} in ${formatDuration(row.callMs)} ` +
  `(${formatByteRate(row.bytesPerCall, row.callMs)}), alone ${formatDuration(row.readMs)}: ${formatNumber(row.speed.median)} of the reads (goal 0.9), ` +
  `${formatNumber(row.cpuSecondsPerGB)} CPU s per GB (goal 0.25); mapped files ${formatDuration(row.mappedMs)}, ${formatNumber(row.mappedRatio.median)} of our time${disturbance(row)}`

/** The tensors of each expert of layer 0, from the headers of the files. */
async function expertRanges({ files, shape }: OffloadCheckpoint): Promise<ByteRange[][]> {
  const experts: ByteRange[][] = Array.from({ length: shape.config.numExperts }, () => [])
  for (const file of files.map(name => path.resolve(name))) {
    await using handle = await open(file)
    const { size } = await handle.stat()
    const { tensors } = await readSafetensorsHeader(handle, size, file)
    for (const { name, offset, bytes } of tensors.values()) {
      const expert = /^model\.layers\.0\.mlp\.experts\.(\d+)\./.exec(name)?.[1]
      if (expert === undefined) continue
      experts[Number(expert)]!.push({ file, offset, bytes })
    }
  }
  return experts
}
