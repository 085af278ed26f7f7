/** Loads that run at the same time are not promised the same memory. */

import { afterEach, describe, expect, it } from 'vitest'
import { type HostReservation, hostMemory, reserveHostMemory } from '../../lib/devices/host-memory.js'

describe('host memory', () => {
  const made: HostReservation[] = []
  const reserve = (bytes: number) => {
    const reservation = reserveHostMemory(bytes, 'These')
    made.push(reservation)
    return reservation
  }
  afterEach(() => {
    for (const reservation of made.splice(0)) reservation.release()
  })

  it('is promised once, until it is taken or released', () => {
    const most = 0.6 * hostMemory().freeBytes
    const first = reserve(most)
    expect(() => reserve(most)).toThrow(
      expect.objectContaining({
        code: 'ERR_MOE_OUT_OF_MEMORY',
        message: expect.stringMatching(/^These need \d+(\.\d+)? bytes of host memory, and \d+/),
        details: { neededBytes: most, freeBytes: expect.any(Number) },
      }),
    )
    // Half of it is there by now.
    first.keep(0.25)
    const second = reserve(most)
    second.release()
    second.release()
    first.release()
    reserve(most)
  })
})
