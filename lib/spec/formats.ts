/** Generated from spec/formats.json by tools/build/spec.mjs: do not edit. */

/** Bits of one element, by dtype string of safetensors. */
export const DTYPE_BITS: Readonly<Record<string, number>> = Object.freeze({
  __proto__: null as never,
  F32: 32,
  F16: 16,
  BF16: 16,
  F8_E4M3: 8,
  F8_E5M2: 8,
  F8_E8M0: 8,
  I8: 8,
  U8: 8,
  I32: 32,
  I64: 64,
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  U32: 32,
  C64: 64,
  F64: 64,
  U64: 64,
})

/** Names of the types that a plan may read, as safetensors and ggml spell them, in the order of the addon. */
export const STORED_TYPES = [
  'F32',
  'F16',
  'BF16',
  'F8_E4M3',
  'F8_E5M2',
  'F8_E8M0',
  'I8',
  'U8',
  'I32',
  'I64',
  'Q4_0',
  'Q4_1',
  'Q5_0',
  'Q5_1',
  'Q8_0',
  'Q2_K',
  'Q3_K',
  'Q4_K',
  'Q5_K',
  'Q6_K',
  'IQ2_XXS',
  'IQ2_XS',
  'IQ3_XXS',
  'IQ1_S',
  'IQ4_NL',
  'IQ3_S',
  'IQ2_S',
  'IQ4_XS',
  'IQ1_M',
  'MXFP4',
  'NVFP4',
] as const
export type StoredType = (typeof STORED_TYPES)[number]

/** Bytes of one stored element; where elements are stored in blocks, of one block. */
export const STORED_BYTES: Readonly<Record<StoredType, number>> = {
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  I8: 1,
  U8: 1,
  I32: 4,
  I64: 8,
  Q4_0: 18,
  Q4_1: 20,
  Q5_0: 22,
  Q5_1: 24,
  Q8_0: 34,
  Q2_K: 84,
  Q3_K: 110,
  Q4_K: 144,
  Q5_K: 176,
  Q6_K: 210,
  IQ2_XXS: 66,
  IQ2_XS: 74,
  IQ3_XXS: 98,
  IQ1_S: 50,
  IQ4_NL: 18,
  IQ3_S: 110,
  IQ2_S: 82,
  IQ4_XS: 136,
  IQ1_M: 56,
  MXFP4: 17,
  NVFP4: 36,
}

/** Elements of one block; 1 where each is stored by itself. */
export const STORED_ELEMENTS: Readonly<Record<StoredType, number>> = {
  F32: 1,
  F16: 1,
  BF16: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  I8: 1,
  U8: 1,
  I32: 1,
  I64: 1,
  Q4_0: 32,
  Q4_1: 32,
  Q5_0: 32,
  Q5_1: 32,
  Q8_0: 32,
  Q2_K: 256,
  Q3_K: 256,
  Q4_K: 256,
  Q5_K: 256,
  Q6_K: 256,
  IQ2_XXS: 256,
  IQ2_XS: 256,
  IQ3_XXS: 256,
  IQ1_S: 256,
  IQ4_NL: 32,
  IQ3_S: 256,
  IQ2_S: 256,
  IQ4_XS: 256,
  IQ1_M: 256,
  MXFP4: 32,
  NVFP4: 64,
}

/** Types of tensors of a GGUF file by their number. */
export const GGUF_TYPES: ReadonlyMap<number, { name: string; blockBytes: number; perBlock: number }> =
  new Map([
    [0, { name: 'F32', blockBytes: 4, perBlock: 1 }],
    [1, { name: 'F16', blockBytes: 2, perBlock: 1 }],
    [30, { name: 'BF16', blockBytes: 2, perBlock: 1 }],
    [24, { name: 'I8', blockBytes: 1, perBlock: 1 }],
    [26, { name: 'I32', blockBytes: 4, perBlock: 1 }],
    [27, { name: 'I64', blockBytes: 8, perBlock: 1 }],
    [2, { name: 'Q4_0', blockBytes: 18, perBlock: 32 }],
    [3, { name: 'Q4_1', blockBytes: 20, perBlock: 32 }],
    [6, { name: 'Q5_0', blockBytes: 22, perBlock: 32 }],
    [7, { name: 'Q5_1', blockBytes: 24, perBlock: 32 }],
    [8, { name: 'Q8_0', blockBytes: 34, perBlock: 32 }],
    [10, { name: 'Q2_K', blockBytes: 84, perBlock: 256 }],
    [11, { name: 'Q3_K', blockBytes: 110, perBlock: 256 }],
    [12, { name: 'Q4_K', blockBytes: 144, perBlock: 256 }],
    [13, { name: 'Q5_K', blockBytes: 176, perBlock: 256 }],
    [14, { name: 'Q6_K', blockBytes: 210, perBlock: 256 }],
    [16, { name: 'IQ2_XXS', blockBytes: 66, perBlock: 256 }],
    [17, { name: 'IQ2_XS', blockBytes: 74, perBlock: 256 }],
    [18, { name: 'IQ3_XXS', blockBytes: 98, perBlock: 256 }],
    [19, { name: 'IQ1_S', blockBytes: 50, perBlock: 256 }],
    [20, { name: 'IQ4_NL', blockBytes: 18, perBlock: 32 }],
    [21, { name: 'IQ3_S', blockBytes: 110, perBlock: 256 }],
    [22, { name: 'IQ2_S', blockBytes: 82, perBlock: 256 }],
    [23, { name: 'IQ4_XS', blockBytes: 136, perBlock: 256 }],
    [29, { name: 'IQ1_M', blockBytes: 56, perBlock: 256 }],
    [39, { name: 'MXFP4', blockBytes: 17, perBlock: 32 }],
    [40, { name: 'NVFP4', blockBytes: 36, perBlock: 64 }],
    [25, { name: 'I16', blockBytes: 2, perBlock: 1 }],
    [28, { name: 'F64', blockBytes: 8, perBlock: 1 }],
  ])

/** dtypes that plain values may have. */
export const FLOAT_TYPES = ['F32', 'F16', 'BF16'] as const

/** Formats in which checkpoints store a matrix. */
export const CODECS = ['float', 'e2m1', 'packedInt', 'awq', 'gptq', 'int8', 'ggml', 'int4Rows'] as const
export type Codec = (typeof CODECS)[number]

/** The tensors of a stored matrix, in the order in which they are read. */
export const STORED_PARTS = [
  'data',
  'scale',
  'zeroPoint',
  'groupIndex',
  'globalScale',
  'columnScale',
] as const
export type StoredPart = (typeof STORED_PARTS)[number]

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
    data: ['F32', 'F16', 'BF16', 'F8_E4M3', 'F8_E5M2'],
    scale: ['F32', 'F16', 'BF16', 'F8_E8M0', 'U8'],
    parts: ['data', 'scale', 'columnScale'],
  },
  /** two per byte, low nibble first: [rows, cols/2], or transposed; a scale per block in e8m0 (or its bytes) or e4m3; a scale of the whole matrix where there is one */
  e2m1: {
    data: ['U8', 'I8'],
    scale: ['F8_E8M0', 'U8', 'F8_E4M3'],
    parts: ['data', 'scale', 'globalScale', 'columnScale'],
  },
  /** compressed-tensors, 2, 4 or 8 bit: I32 [rows, ceil(cols*bits/32)], offset 2^(bits-1); zero points packed along rows; a group per column where there is one */
  packedInt: {
    data: ['I32'],
    scale: ['F32', 'F16', 'BF16'],
    parts: ['data', 'scale', 'zeroPoint', 'groupIndex', 'columnScale'],
  },
  /** 4 bit, input-major: I32 [cols, rows/8], nibble order 0,4,1,5,2,6,3,7; zero points I32 [groups, rows/8] where there are some, scales [groups, rows]; unsigned around 8, or signed */
  awq: { data: ['I32'], scale: ['F32', 'F16', 'BF16'], parts: ['data', 'scale', 'zeroPoint', 'columnScale'] },
  /** 2, 3, 4 or 8 bit without gaps, input-major: I32 [cols*bits/32, rows]; zero points I32 [groups, rows*bits/32] where there are some, scales [groups, rows]; a group per column where there is one */
  gptq: {
    data: ['I32'],
    scale: ['F32', 'F16', 'BF16'],
    parts: ['data', 'scale', 'zeroPoint', 'groupIndex', 'columnScale'],
  },
  /** one signed byte each, [rows, cols]; a scale per block; zero points I8 where there are some, one per scale; a group per column where there is one */
  int8: {
    data: ['I8'],
    scale: ['F32', 'F16', 'BF16'],
    parts: ['data', 'scale', 'zeroPoint', 'groupIndex', 'columnScale'],
  },
  /** blocks of a GGUF file's type, which hold their scales, [rows, cols / elements of a block]; NVFP4: a scale of the whole matrix where there is one */
  ggml: {
    data: [
      'Q4_0',
      'Q4_1',
      'Q5_0',
      'Q5_1',
      'Q8_0',
      'Q2_K',
      'Q3_K',
      'Q4_K',
      'Q5_K',
      'Q6_K',
      'IQ2_XXS',
      'IQ2_XS',
      'IQ3_XXS',
      'IQ1_S',
      'IQ4_NL',
      'IQ3_S',
      'IQ2_S',
      'IQ4_XS',
      'IQ1_M',
      'MXFP4',
      'NVFP4',
    ],
    scale: [],
    parts: ['data', 'globalScale'],
  },
  /** ModelOpt's int4: two rows to a byte, the even one in the lower nibble, two's complement: U8 [rows/2, cols]; a scale per block */
  int4Rows: { data: ['U8'], scale: ['F32', 'F16', 'BF16'], parts: ['data', 'scale', 'columnScale'] },
}
