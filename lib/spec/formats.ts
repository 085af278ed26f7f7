/** Generated from spec/formats.json by tools/build/spec.mjs: do not edit. */

/** Bits of one element, by dtype string of safetensors. */
export const DTYPE_BITS: Readonly<Record<string, number>> = Object.freeze({
  __proto__: null as never,
  F32: 32,
  F16: 16,
  BF16: 16,
  F8_E4M3: 8,
  F8_E8M0: 8,
  I8: 8,
  U8: 8,
  I32: 32,
  I64: 64,
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  F8_E5M2: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  U32: 32,
  C64: 64,
  F64: 64,
  U64: 64,
})

/** dtype strings of safetensors that a plan may read, in the order of the addon. */
export const STORED_TYPES = ['F32', 'F16', 'BF16', 'F8_E4M3', 'F8_E8M0', 'I8', 'U8', 'I32', 'I64'] as const
export type StoredType = (typeof STORED_TYPES)[number]

/** Bytes of one stored element. */
export const STORED_BYTES: Readonly<Record<StoredType, number>> = {
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E8M0: 1,
  I8: 1,
  U8: 1,
  I32: 4,
  I64: 8,
}

/** dtypes that plain values may have. */
export const FLOAT_TYPES = ['F32', 'F16', 'BF16'] as const

/** Formats in which checkpoints store a matrix. */
export const CODECS = ['float', 'e2m1', 'packedInt', 'awq', 'gptq', 'int8'] as const
export type Codec = (typeof CODECS)[number]

/** The tensors of a stored matrix. */
export type StoredPart = 'data' | 'scale' | 'zeroPoint' | 'groupIndex' | 'globalScale'

/** What a format is made of. */
export interface StoredFormat {
  /** Types of the weights. */
  readonly data: readonly StoredType[]
  /** Types of the scales. */
  readonly scale: readonly StoredType[]
  /** Tensors that it may have. */
  readonly parts: readonly StoredPart[]
}

export const STORED_FORMATS: Readonly<Record<Codec, StoredFormat>> = {
  /** elements as they are, [rows, cols] or transposed; a scale per block where there is one, multiplied (U8: the bytes of e8m0) */
  float: {
    data: ['F32', 'F16', 'BF16', 'F8_E4M3'],
    scale: ['F32', 'F16', 'BF16', 'F8_E8M0', 'U8'],
    parts: ['data', 'scale'],
  },
  /** two per byte, low nibble first: [rows, cols/2], or transposed; a scale per block in e8m0 (or its bytes) or e4m3; a scale of the whole matrix where there is one */
  e2m1: { data: ['U8', 'I8'], scale: ['F8_E8M0', 'U8', 'F8_E4M3'], parts: ['data', 'scale', 'globalScale'] },
  /** compressed-tensors, 2, 4 or 8 bit: I32 [rows, ceil(cols*bits/32)], offset 2^(bits-1); zero points packed along rows; a group per column where there is one */
  packedInt: {
    data: ['I32'],
    scale: ['F32', 'F16', 'BF16'],
    parts: ['data', 'scale', 'zeroPoint', 'groupIndex'],
  },
  /** 4 bit, input-major: I32 [cols, rows/8], nibble order 0,4,1,5,2,6,3,7; zero points I32 [groups, rows/8], scales [groups, rows] */
  awq: { data: ['I32'], scale: ['F32', 'F16', 'BF16'], parts: ['data', 'scale', 'zeroPoint'] },
  /** 2, 4 or 8 bit, input-major: I32 [cols*bits/32, rows]; zero points I32 [groups, rows*bits/32] where there are some, scales [groups, rows]; a group per column where there is one */
  gptq: { data: ['I32'], scale: ['F32', 'F16', 'BF16'], parts: ['data', 'scale', 'zeroPoint', 'groupIndex'] },
  /** one signed byte each, [rows, cols]; a scale per block; zero points I8 where there are some, one per scale; a group per column where there is one */
  int8: { data: ['I8'], scale: ['F32', 'F16', 'BF16'], parts: ['data', 'scale', 'zeroPoint', 'groupIndex'] },
}
