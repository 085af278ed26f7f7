/** In which formats the addon holds the matrices of a layer. */

import { type ActivationsOption, noInt8Device, noInt8Matrix } from '../../block/activations.js'
import type { ResolvedMoeConfig } from '../../block/config.js'
import type { DType } from '../../block/dtype.js'
import { MoeError } from '../../block/errors.js'
import {
  dtypeFormat,
  type LayerWeightFormat,
  type MatrixWeightFormat,
  type WeightsOption,
} from '../../block/weight-format.js'
import { assembleFormats } from '../../checkpoint/plan/layer-formats.js'
import type { MatrixItem } from '../../checkpoint/plan/layer-plan.js'
import { storedName } from '../../checkpoint/plan/stored-name.js'
import type { ChosenFormats, HeldMatrices, NativeAddon, NativeMatrixFormat } from './binding-contract.js'

/** What `createLayer` takes, and what users are told. */
export interface HeldWeights {
  readonly native: HeldMatrices
  readonly format: LayerWeightFormat
}

/** The addon's formats behind those that users are told, for plans of a layer like one that is there. */
export const heldMatrices = new WeakMap<LayerWeightFormat, HeldMatrices>()

/**
 * Chooses the format of every matrix.
 *
 * @param weights as the user asked
 * @param items the matrices, from headers alone
 * @throws {@link MoeError} ERR_MOE_UNSUPPORTED_FORMAT where 'stored' is asked for and a matrix would not be held as it is stored, or 'int8'
 * or 'int4' and the device holds no codes; where activations are to be 'int8' and no matrix of an expert is held as integers
 */
export function chooseWeightFormats(
  addon: NativeAddon,
  target: { device: string; dtype: DType; weights: WeightsOption; activations: ActivationsOption },
  config: ResolvedMoeConfig,
  items: readonly MatrixItem[],
  gateUpInterleaved: boolean,
): HeldWeights {
  const { device, dtype, weights, activations } = target
  const chosen = addon.chooseFormats(device, dtype, weights, gateUpInterleaved, items)
  if (weights === 'stored') refuseExpanded(items, chosen, device, dtype)
  if (weights === 'int8' || weights === 'int4') refuseFloats(items, chosen, target)
  const native = { ...chosen, matrices: items }
  if (activations === 'int8') refuseExact(native, device)
  const sizes = new Map<string, number>()
  const bytesOf = (format: number, rows: number, cols: number): number => {
    const key = `${format} ${rows} ${cols}`
    const known = sizes.get(key)
    if (known !== undefined) return known
    const bytes = addon.matrixBytes(device, dtype, chosen.formats[format]!, rows, cols)
    sizes.set(key, bytes)
    return bytes
  }
  const describe = (index: number): MatrixWeightFormat => {
    const item = items[index]!
    const format = chosen.formatOf[index]!
    const heldAs = chosen.formats[format]!
    const rows = item.matrix === 'gateUp' ? item.rows / 2 : item.rows
    const bitsPerWeight = isCodes(heldAs)
      ? (8 * bytesOf(format, rows, item.cols)) / (rows * item.cols)
      : dtypeFormat(heldAs.code as DType).bitsPerWeight
    return Object.freeze({
      stored: storedName(item, item.rows, item.cols),
      held: heldAs.code,
      bitsPerWeight,
    })
  }
  const format = assembleFormats(config, items, dtypeFormat(dtype), describe)
  heldMatrices.set(format, native)
  return { native, format }
}

const isCodes = ({ scale }: NativeMatrixFormat) => scale !== 'none'

/** @throws {@link MoeError} ERR_MOE_UNSUPPORTED_FORMAT where no matrix of an expert multiplies int8 activations */
export function refuseExact(held: HeldMatrices, device: string): void {
  const { formats, formatOf, matrices, takesInt8 } = held
  if (!takesInt8) throw noInt8Device(device)
  const experts = matrices.flatMap(({ role }, i) => (role === 'latent' ? [] : [formatOf[i]!]))
  if (experts.some(format => takesInt8[format])) return
  throw noInt8Matrix(
    device,
    experts.map(format => formats[format]!.code),
  )
}

function refuseFloats(
  items: readonly MatrixItem[],
  { formats, formatOf }: ChosenFormats,
  { device, dtype, weights }: { device: string; dtype: DType; weights: WeightsOption },
): void {
  const index = items.findIndex((_, i) => !isCodes(formats[formatOf[i]!]!))
  if (index < 0) return
  throw new MoeError(
    'ERR_MOE_UNSUPPORTED_FORMAT',
    `The device '${device}' does not multiply by codes in ${dtype}: weights '${weights}' would save no memory there; ask for 'auto'`,
    { details: { tensor: items[index]!.data.name, format: weights, device } },
  )
}

function refuseExpanded(
  items: readonly MatrixItem[],
  { isStored }: ChosenFormats,
  device: string,
  dtype: DType,
): void {
  // Floats of the layer's own dtype are stored either way.
  const index = items.findIndex(
    (item, i) => !isStored[i] && !(item.encoding.codec === 'float' && item.data.type === dtype.toUpperCase()),
  )
  if (index < 0) return
  const item = items[index]!
  const name = storedName(item, item.rows, item.cols)
  const order = item.unevenGroups ? ', whose groups have different numbers of columns,' : ''
  throw new MoeError(
    'ERR_MOE_UNSUPPORTED_FORMAT',
    `The device '${device}' does not multiply '${item.data.name}' (${name}${order} in ${dtype}) as it is stored: ask for weights 'auto', ` +
      `which expands what it must to ${dtype}`,
    { details: { tensor: item.data.name, format: name, device } },
  )
}
