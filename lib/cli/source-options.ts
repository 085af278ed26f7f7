/** Options of the commands that read a checkpoint: which model of it, on which device, and in which form. */

import { WEIGHTS_OPTIONS } from '../block/weight-format.js'
import { type DeviceOption, deviceSpellings, isSpelledAs } from '../devices/device.js'
import { choiceOption, integerOption, invalidOption } from './arguments.js'

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

/** How layers would be held, for the commands that load none. */
export const HELD_OPTIONS = {
  dtype: { type: 'string', value: 'T', help: 'auto, f32, f16 or bf16 (default: auto)' },
  weights: {
    type: 'string',
    value: 'W',
    help: 'auto, stored, expand, int8 or int4: how the matrices would be held (default: auto)',
  },
  'max-tokens': { type: 'string', value: 'N', help: 'rows of a call that scratch is for (default: 256)' },
} as const

/** @throws UsageError ERR_MOE_INVALID_ARG_VALUE */
export const heldOptions = (values: { dtype?: string; weights?: string; 'max-tokens'?: string }) => ({
  dtype: choiceOption('dtype', values.dtype, ['auto', 'f32', 'f16', 'bf16']),
  weights: choiceOption('weights', values.weights, WEIGHTS_OPTIONS),
  maxTokens: integerOption('max-tokens', values['max-tokens'], 1),
})
