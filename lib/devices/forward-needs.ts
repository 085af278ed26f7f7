/** What a forward takes on a device, before anything is loaded. */

import { type ActivationsOption, noInt8Matrix } from '../block/activations.js'
import type { ResolvedMoeConfig } from '../block/config.js'
import type { DType } from '../block/dtype.js'
import { dtypeFormat, type LayerWeightFormat, uniformFormat } from '../block/weight-format.js'
import { hasIntegerCodes } from '../checkpoint/load/int8-matrices.js'
import { itemsStoredAs, type StoredForm } from '../checkpoint/plan/stored-as.js'
import type { StageKernels } from './contract.js'
import type { ChosenDevice } from './device.js'
import type { HeldMatrices } from './native/binding-contract.js'
import { fromNativeError } from './native/errors.js'
import { chooseWeightFormats, heldMatrices, refuseExact } from './native/weight-formats.js'
import { referenceKernels } from './reference/stages.js'
import { referenceWorkspaceBytes } from './reference/workspace.js'

export interface ForwardNeeds {
  kernels: StageKernels
  workspaceBytes: number
  format: LayerWeightFormat
}

/**
 * @param weights the form in which all matrices are stored, or how a layer holds its own; absent: values of `dtype`
 * @throws {@link MoeError} ERR_MOE_DEVICE_UNAVAILABLE; ERR_MOE_UNSUPPORTED_FORMAT where activations are to be 'int8' and nothing
 * multiplies them
 */
export function forwardNeeds(
  { id, addon }: ChosenDevice,
  config: ResolvedMoeConfig,
  dtype: DType,
  numTokens: number,
  {
    batchInvariant,
    weights,
    activations,
  }: {
    batchInvariant: boolean
    weights?: StoredForm | LayerWeightFormat
    activations: ActivationsOption
  },
): ForwardNeeds {
  const own = uniformFormat(config, dtypeFormat(dtype))
  const given = typeof weights === 'object' ? weights : undefined
  const form = typeof weights === 'string' ? weights : dtype
  const int8Activations = activations === 'int8'
  if (!addon) {
    if (int8Activations && !given) refuseFloats(id, config, form)
    return {
      kernels: referenceKernels(activations),
      workspaceBytes: referenceWorkspaceBytes(config, numTokens),
      format: given ?? own,
    }
  }
  try {
    let format = given ?? own
    let held: HeldMatrices | undefined = heldMatrices.get(format)
    if (typeof weights === 'string' || (int8Activations && !held)) {
      const target = { device: id, dtype, weights: 'auto', activations } as const
      const items = itemsStoredAs(config, form)
      const chosen = chooseWeightFormats(addon, target, config, items, false)
      format = chosen.format
      held = chosen.native
    } else if (int8Activations && held) {
      // They may be another device's.
      const hasInt8 = addon.chooseFormats(id, dtype, 'auto', false, []).takesInt8 !== null
      refuseExact(hasInt8 ? held : { ...held, takesInt8: null }, id)
    }
    const call = [id, config, dtype, numTokens, { batchInvariant, int8Activations }, held] as const
    return {
      kernels: addon.describeForward(...call),
      workspaceBytes: addon.workspaceBytes(...call),
      format,
    }
  } catch (error) {
    throw fromNativeError(error, 'run')
  }
}

/** Of the reference, which holds what it is given. */
function refuseFloats(device: string, config: ResolvedMoeConfig, form: StoredForm): void {
  const experts = itemsStoredAs(config, form).filter(({ role }) => role !== 'latent')
  if (!experts.some(item => hasIntegerCodes(item, item.cols))) throw noInt8Matrix(device, [form])
}
