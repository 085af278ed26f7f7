/** What users call the form in which a matrix is stored. */

import type { StoredType } from '../../spec/formats.js'
import type { EncodedSource } from './layer-plan.js'

const E8M0_TYPES: readonly string[] = ['U8', 'F8_E8M0']

/** ggml's types as its tools spell them: 'q4_K', 'iq2_xxs', 'mxfp4'. */
const ggmlName = (type: string) => type.toLowerCase().replace(/_k$/, '_K')

/** 'bf16', 'fp8 128x128', 'fp8 per channel', 'mxfp8', 'mxfp4', 'nvfp4', 'awq int4 g128', 'int8 per channel', 'q4_K' … */
export function storedName(
  {
    encoding,
    data,
    scale,
  }: Pick<EncodedSource, 'encoding'> & { data: { type: StoredType }; scale?: { type: StoredType } },
  rows: number,
  cols: number,
): string {
  const { codec, block, bits = 4 } = encoding
  const isMx = block?.cols === 32 && E8M0_TYPES.includes(scale?.type ?? '')
  const grid = () => {
    if (!block) return ''
    if (block.rows >= rows && block.cols >= cols) return ' per tensor'
    if (block.cols >= cols) return block.rows === 1 ? ' per channel' : ` ${block.rows}x${block.cols}`
    return block.rows === 1 ? ` g${block.cols}` : ` ${block.rows}x${block.cols}`
  }
  switch (codec) {
    case 'ggml':
      return ggmlName(data.type)
    case 'e2m1':
      return isMx ? 'mxfp4' : scale?.type === 'F8_E4M3' ? 'nvfp4' : `fp4${grid()}`
    case 'packedInt':
      return `int${bits}${grid()}`
    case 'int4Rows':
      return `int4${grid()}`
    case 'int8':
      return `int8${grid()}`
    case 'awq':
      return `awq int4${grid()}`
    case 'gptq':
      return `gptq int${bits}${grid()}`
    default:
      if (data.type === 'F8_E5M2') return `fp8 e5m2${grid()}`
      if (data.type === 'F8_E4M3') return isMx && block?.rows === 1 ? 'mxfp8' : `fp8${grid()}`
      return data.type.toLowerCase() + grid()
  }
}
