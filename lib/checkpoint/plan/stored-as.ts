/** The matrices of a layer as if a checkpoint stored them all in one form: for plans before there is a checkpoint. */

import type { ResolvedMoeConfig } from '../../block/config.js'
import { DTYPES, type DType } from '../../block/dtype.js'
import { QUANTIZED_FORMATS, type QuantizedFormat } from '../../block/weights.js'
import { STORED_BYTES, STORED_ELEMENTS, type StoredType } from '../../spec/formats.js'
import type { EncodedSource, MatrixEncoding, MatrixItem } from './layer-plan.js'

/** A form of all matrices: a dtype, or one of {@link QUANTIZED_FORMATS}. */
export type StoredForm = DType | QuantizedFormat
export const STORED_FORMS: readonly StoredForm[] = [...DTYPES, ...QUANTIZED_FORMATS]

interface Form {
  data: StoredType
  scale?: StoredType
  encoding: MatrixEncoding
  globalScale?: boolean
}

const FORMS: Readonly<Record<string, Form>> = {
  int8: { data: 'I8', scale: 'F16', encoding: { codec: 'int8', block: { rows: 1, cols: 32 } } },
  int4: {
    data: 'I32',
    scale: 'F16',
    encoding: { codec: 'packedInt', bits: 4, block: { rows: 1, cols: 32 } },
  },
  fp8: { data: 'F8_E4M3', scale: 'F32', encoding: { codec: 'float', block: { rows: 128, cols: 128 } } },
  mxfp4: { data: 'U8', scale: 'F8_E8M0', encoding: { codec: 'e2m1', block: { rows: 1, cols: 32 } } },
  nvfp4: {
    data: 'U8',
    scale: 'F8_E4M3',
    encoding: { codec: 'e2m1', block: { rows: 1, cols: 16 }, globalScaleOp: 'multiply' },
    globalScale: true,
  },
}

/** ggml's type of a name: 'q4_K' → Q4_K, 'ggml_mxfp4' → MXFP4. */
export const ggmlType = (form: QuantizedFormat): StoredType =>
  form.toUpperCase().replace('GGML_', '') as StoredType

function formOf(form: StoredForm): Form {
  if ((DTYPES as readonly string[]).includes(form))
    return { data: form.toUpperCase() as StoredType, encoding: { codec: 'float' } }
  return FORMS[form] ?? { data: ggmlType(form as QuantizedFormat), encoding: { codec: 'ggml' } }
}

function source(form: StoredForm, rows: number, cols: number): EncodedSource {
  const { data, scale, encoding, globalScale } = formOf(form)
  const segment = (type: StoredType, count: number) => {
    const bytes = Math.max(1, Math.ceil(count / STORED_ELEMENTS[type]) * STORED_BYTES[type])
    return { file: 0, offset: 0, bytes, type, name: form }
  }
  const perElement = data === 'U8' ? 1 / 2 : data === 'I32' ? 1 / 8 : 1
  const { block } = encoding
  const blocks = block ? Math.ceil(rows / block.rows) * Math.ceil(cols / block.cols) : 0
  return {
    encoding,
    data: segment(data, rows * cols * perElement),
    ...(scale ? { scale: segment(scale, blocks) } : {}),
    ...(globalScale ? { globalScale: segment('F32', 1) } : {}),
  }
}

/** All matrices of a layer; a ggml type whose blocks do not divide a row is bf16 there, as its own files have it. */
export function itemsStoredAs(config: ResolvedMoeConfig, form: StoredForm): MatrixItem[] {
  const { hiddenSize, intermediateSize, sharedIntermediateSize, latentSize, numExperts, gated } = config
  const items: MatrixItem[] = []
  const add = (
    role: MatrixItem['role'],
    expert: number,
    matrix: MatrixItem['matrix'],
    rows: number,
    cols: number,
  ) => {
    const fits = cols % STORED_ELEMENTS[formOf(form).data] === 0
    items.push({ role, expert, matrix, rows, cols, ...source(fits ? form : 'bf16', rows, cols) })
  }
  const addMlp = (role: MatrixItem['role'], expert: number, width: number, size: number) => {
    if (gated) add(role, expert, 'gate', width, size)
    add(role, expert, 'up', width, size)
    add(role, expert, 'down', size, width)
  }
  for (let e = 0; e < numExperts; e++) addMlp('expert', e, intermediateSize, latentSize || hiddenSize)
  if (config.numSharedExperts > 0) addMlp('shared', 0, sharedIntermediateSize, hiddenSize)
  if (latentSize > 0) {
    add('latent', 0, 'down', latentSize, hiddenSize)
    add('latent', 0, 'up', hiddenSize, latentSize)
  }
  return items
}
