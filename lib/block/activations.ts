/** How the rows that meet the matrices of the experts are multiplied; and what is said where int8 would have no effect, which is never silent. */

import { MoeError } from './errors.js'

export const ACTIVATIONS_OPTIONS = ['exact', 'int8'] as const
export type ActivationsOption = (typeof ACTIVATIONS_OPTIONS)[number]

/** The device has no such product, whatever it holds. */
export const noInt8Device = (device: string): MoeError =>
  new MoeError(
    'ERR_MOE_UNSUPPORTED_FORMAT',
    `The device '${device}' does not multiply activations as int8: ask for activations 'exact', or for device 'cpu'`,
    { details: { device, activations: 'int8' } },
  )

/** @param held what is held for each weight, and how it is stored */
export const noInt8Matrix = (device: string, held: readonly string[]): MoeError =>
  new MoeError(
    'ERR_MOE_UNSUPPORTED_FORMAT',
    `Activations 'int8' are multiplied by experts that are held as integers, and this layer holds none on '${device}' ` +
      `(${[...new Set(held)].join(', ')}): ask for weights 'int8' or 'int4', or for activations 'exact'`,
    { details: { device, activations: 'int8' } },
  )
