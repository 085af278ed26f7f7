/** Bits of a row on a GPU, alone and in batches. */

import { expect, it } from 'vitest'
import { DTYPES } from '../../lib/block/dtype.js'
import { describeCuda, runFixture } from '../helpers/cuda.js'
import type { BatchReport } from './fixtures/batches.js'

/** On an emulated card as large as a real one: what is split, and what that changes, depends on its multiprocessors. */
const compareBatches = (device: string, dtype: string, batchInvariant: boolean) =>
  runFixture<BatchReport>('batches', {
    SIMT_MULTIPROCESSORS: '108',
    DEVICE: device,
    DTYPE: dtype,
    BATCH_INVARIANT: batchInvariant ? '1' : '0',
  })

describeCuda('batches', device => {
  it.each([...DTYPES])(
    '%s with batchInvariant: a row alone gives the bits that it gives in any batch',
    async dtype => {
      const report = await compareBatches(device, dtype, true)
      expect(report).toEqual({ changed: [], differentSplit: [], split: '' })
    },
  )

  it.each([...DTYPES])('%s by default: only batches of another split may differ', async dtype => {
    const { changed, differentSplit, split } = await compareBatches(device, dtype, false)
    expect(changed.filter(batch => !differentSplit.includes(batch))).toEqual([])
    // Not for want of a split: the smallest calls have one, the largest none, and it does change bits.
    expect(split).toMatch(/K split in \d/)
    expect(differentSplit).toContain(65)
    expect(differentSplit).not.toContain(2)
    expect(changed).toContain(65)
  })
})
