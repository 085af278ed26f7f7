/**
 * Which devices the tests run on: those that SPARSE_EXPERTS_TEST_DEVICES names (a comma list), else every native device that serves
 * here. A device that was asked for and does not serve, and a build without the addon, fail the suite loudly.
 */

import { type DeviceInfo, devices } from '../../lib/index.js'

const known = devices()

function chosen(): readonly DeviceInfo[] {
  const asked = process.env.SPARSE_EXPERTS_TEST_DEVICES?.split(',').filter(Boolean)
  if (!asked?.length) return known.filter(device => device.available && device.id !== 'reference')
  return asked.map(id => {
    const device = known.find(info => info.id === id)
    if (!device?.available) {
      throw new Error(
        `SPARSE_EXPERTS_TEST_DEVICES names '${id}', which does not serve: ${JSON.stringify(known, null, 2)}`,
      )
    }
    return device
  })
}

const available = chosen()

if (available.length === 0) {
  throw new Error(
    `No native device serves here, so nothing would be tested: ${JSON.stringify(known, null, 2)}`,
  )
}

export const nativeDevices: readonly string[] = available.map(device => device.id)

/**
 * The GPU is emulated under AddressSanitizer or the race detector, many times as slow. They look at every access of every kernel, so tests
 * that repeat the same kernels do it less often there.
 */
export const underDetectors = /^(address|race)$/.test(process.env.SPARSE_EXPERTS_EMULATED ?? '')

/** Those with memory of their own. */
export const cudaDevices: readonly string[] = nativeDevices.filter(device => device.startsWith('cuda'))

/** Why suites of CUDA devices do not run here; null where they do. */
export const withoutCuda: string | null =
  cudaDevices.length > 0
    ? null
    : (known.find(device => device.id.startsWith('cuda'))?.reason ?? 'not asked for')

/** Every device, the oracle included. */
export const allDevices: readonly string[] = [...nativeDevices, 'reference']
