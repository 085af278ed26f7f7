/** Reads what Quark's `quantization_config` says of weights: the tensors alone do not tell how integers are packed. */

import type { ConfigReader } from '../../families/parts/config-reader.js'

/** How Quark packed integers of four bits. */
export interface QuarkInt4 {
  /** Elements are two's complement. */
  signed: boolean
}

/** Types of weights whose tensors tell the rest. */
const PLAIN_TYPES = ['fp8_e4m3', 'fp8_e5m2', 'fp4', 'mx', 'int8', 'uint8', 'bfloat16', 'float16', 'float32']

/** Every description of weights in the config, of all layers or of some. */
function weightSpecs(config: ConfigReader): ConfigReader[] {
  const layers = ['layer_quant_config', 'layer_type_quant_config'].flatMap(field =>
    (config.nested(field)?.sections() ?? []).map(([, section]) => section),
  )
  return [config.nested('global_quant_config'), ...layers].flatMap(section => {
    if (!section) return []
    // A list is of weights that were quantised twice: the last description is that of what is stored.
    const list = section.raw('weight')
    const spec = Array.isArray(list) ? section.item('weight', list.length - 1) : section.nested('weight')
    return spec ? [spec] : []
  })
}

/**
 * How integers of four bits are packed; null where there are none.
 *
 * @param refuse makes the error of a form that is not read from what it is
 */
export function readQuark(config: ConfigReader, refuse: (what: string) => Error): QuarkInt4 | null {
  const int4 = new Set<string>()
  for (const spec of weightSpecs(config)) {
    const dtype = spec.string('dtype', '').toLowerCase()
    const scheme = spec.string('qscheme', '')
    if (dtype === 'int4' || dtype === 'uint4') {
      if (scheme !== 'per_group') throw refuse(`Quark's ${dtype} with qscheme '${scheme}'; per_group is read`)
      int4.add(dtype)
    } else if (dtype !== '' && !PLAIN_TYPES.includes(dtype)) {
      throw refuse(`Quark's ${dtype}`)
    } else if (dtype.endsWith('int8') && scheme === 'per_group') {
      throw refuse(`Quark's ${dtype} with qscheme 'per_group', which lies input-major; per_channel is read`)
    } else if (dtype === 'uint8') {
      throw refuse("Quark's uint8; int8 is read")
    }
  }
  const [dtype, other] = int4
  if (other) throw refuse("Quark's int4 and uint4 in one checkpoint")
  if (dtype === undefined) return null
  const order = config.string('export.pack_method', 'reorder')
  if (order !== 'reorder') throw refuse(`Quark's ${dtype} with pack_method '${order}'; reorder is read`)
  return { signed: dtype === 'int4' }
}
