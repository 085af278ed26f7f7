/** What a forward takes on a device, before anything is loaded. */

import type { ResolvedMoeConfig } from '../block/config.js'
import type { DType } from '../block/dtype.js'
import { dtypeFormat, type LayerWeightFormat, uniformFormat } from '../block/weight-format.js'
import { itemsStoredAs, type StoredForm } from '../checkpoint/plan/stored-as.js'
import type { StageKernels } from './contract.js'
import type { ChosenDevice } from './device.js'
import type { HeldMatrices } from './native/binding-contract.js'
import { fromNativeError } from './native/errors.js'
import { chooseWeightFormats, heldMatrices } from './native/weight-formats.js'
import { REFERENCE_KERNELS } from './reference/stages.js'

export interface ForwardNeeds {
  kernels: StageKernels
  workspaceBytes: number
  format: LayerWeightFormat
}

/**
 * @param weights the form in which all matrices are stored, or how a layer holds its own; absent: values of `dtype`
 * @throws {@link MoeError} ERR_MOE_DEVICE_UNAVAILABLE
 */
export function forwardNeeds(
  { id, addon }: ChosenDevice,
  config: ResolvedMoeConfig,
  dtype: DType,
  numTokens: number,
  { batchInvariant, weights }: { batchInvariant: boolean; weights?: StoredForm | LayerWeightFormat },
): ForwardNeeds {
  const own = uniformFormat(config, dtypeFormat(dtype))
  const given = typeof weights === 'object' ? weights : undefined
  if (!addon) return { kernels: REFERENCE_KERNELS, workspaceBytes: 0, format: given ?? own }
  try {
    let format = given ?? own
    let held: HeldMatrices | undefined = heldMatrices.get(format)
    if (typeof weights === 'string') {
      const target = { device: id, dtype, weights: 'auto' } as const
      const chosen = chooseWeightFormats(addon, target, config, itemsStoredAs(config, weights), false)
      format = chosen.format
      held = chosen.native
    }
    const call = [id, config, dtype, numTokens, batchInvariant, held] as const
    return {
      kernels: addon.describeForward(...call),
      workspaceBytes: addon.workspaceBytes(...call),
      format,
    }
  } catch (error) {
    throw fromNativeError(error, 'run')
  }
}
