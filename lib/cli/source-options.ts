/** Options of the commands that read a checkpoint: which model of it, and on which device. */

import { type DeviceOption, deviceSpellings, isSpelledAs } from '../devices/device.js'
import { invalidOption } from './arguments.js'

export const MODULE_OPTION = {
  type: 'string',
  value: 'NAME',
  help: "the language model, where there are several: 'talker' of Qwen3-Omni",
} as const

export const DEVICE_OPTION = {
  type: 'string',
  value: 'D',
  help: 'auto, cpu, cuda, cuda:N or reference (default: auto)',
} as const

/** @throws UsageError ERR_MOE_INVALID_ARG_VALUE for a word that no device is spelled as */
export function deviceOption(text: string | undefined): DeviceOption | undefined {
  const devices = deviceSpellings()
  if (text !== undefined && !isSpelledAs(devices, text))
    throw invalidOption('device', `one of ${devices.join(', ')}`, text)
  return text as DeviceOption | undefined
}
