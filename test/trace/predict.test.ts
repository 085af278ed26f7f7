/** What a simulation predicts is what the cache of a layer counts: the same integers for the same calls, policy and bytes. */

import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { CACHE_POLICIES } from '../../lib/block/expert-cache.js'
import { MoeLayer, readTrace, simulate } from '../../lib/index.js'
import { Random } from '../cases/random.js'
import { removeDirectories, temporaryDirectory } from '../helpers/scratch.js'

afterAll(removeDirectories)

const MODEL = path.join(import.meta.dirname, '../../examples/tiny-deepseek/model')
const LAYER = 2

/** Runs of one row with favourites that drift, now and then one of as many rows as make a call need nearly all experts. */
function* calls(random: Random, hiddenSize: number) {
  for (let call = 0; call < 120; call++) {
    const rows = call % 20 === 7 ? 24 : 1 + random.integer(2)
    yield Float32Array.from(
      { length: rows * hiddenSize },
      (_, i) => Math.sin((i % hiddenSize) * (1 + Math.floor(call / 30))) + random.uniform() - 0.5,
    )
  }
}

/** A recording of other rows than {@link calls}. */
async function otherTrace(): Promise<string> {
  using layer = await MoeLayer.load(MODEL, { layer: LAYER, device: 'cpu' })
  const directory = await temporaryDirectory()
  await using _recorder = layer.record(directory)
  await layer.forward(new Random(2).normals(40 * layer.config.hiddenSize))
  return directory
}

// Shares of the experts' bytes: the least that runs, and more; all of them.
describe.each(CACHE_POLICIES)('%s', policy => {
  it.each([
    ...[5 / 32, 0.3, 0.5, 0.9, 1].map(share => ({ share, begins: 'empty' })),
    { share: 0.5, begins: 'with a profile' },
  ])('of a share of $share, $begins', async ({ share, begins }) => {
    const whole = await MoeLayer.load(MODEL, { layer: LAYER, device: 'cpu', cache: { hostBytes: 2 ** 40 } })
    const { numExperts, hiddenSize } = whole.config
    const hostBytes = Math.ceil(share * numExperts * whole.stats().cache!.expertBytes)
    whole.dispose()
    const profile = begins === 'empty' ? undefined : await otherTrace()
    const cache = { hostBytes, policy, profile }
    using layer = await MoeLayer.load(MODEL, { layer: LAYER, device: 'cpu', cache })
    const directory = await temporaryDirectory()
    const recorder = layer.record(directory)
    for (const hiddenStates of calls(new Random(1), hiddenSize)) await layer.forward(hiddenStates)
    await recorder.close()

    const trace = await readTrace(directory)
    const counted = layer.stats().cache!
    expect(trace.layers[0]!.expertBytes).toBe(counted.expertBytes)
    const { slots, hits, misses, evictions, warmBytes } = await simulate(trace, { cache })
    expect(warmBytes).toBe(profile ? slots * counted.expertBytes : 0)
    expect({ slots, hits, misses, evictions }).toEqual({
      ...{ slots: counted.slots, hits: counted.hits, misses: counted.misses, evictions: counted.evictions },
    })
    expect(counted.hits).toBeGreaterThan(0)
    expect(counted.misses).toBeGreaterThan(0)
  })
})
