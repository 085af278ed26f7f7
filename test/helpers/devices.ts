/** Which devices the tests run on: every native device that serves here. A build without the addon fails the suite loudly. */

import { devices } from '../../lib/index.js'

const available = devices().filter(device => device.available && device.id !== 'reference')

if (available.length === 0) {
  throw new Error(
    `No native device serves here, so nothing would be tested: ${JSON.stringify(devices(), null, 2)}`,
  )
}

export const nativeDevices: readonly string[] = available.map(device => device.id)

/** Every device, the oracle included. */
export const allDevices: readonly string[] = [...nativeDevices, 'reference']
