/** The TypeScript modules of spec/. biome lays them out. */

import { OPTIONAL_PARTS } from './cpp.mjs'

const HEAD = source => `/** Generated from spec/${source} by tools/build/spec.mjs: do not edit. */`
const PARTS = ['data', 'scale', ...OPTIONAL_PARTS]
const quoted = text => `'${text.replaceAll("'", "\\'")}'`
const list = names => `[${names.map(quoted).join(', ')}] as const`

/** lib/spec/enums.ts */
export function enumsModule({ enums }) {
  const lines = [HEAD('enums.json')]
  for (const { ts, type, doc, values, scored } of enums) {
    // What no option takes by name is C's alone.
    if (!type) continue
    lines.push('', `/** ${doc} */`, `export const ${ts} = ${list(values.map(({ name }) => name))}`)
    lines.push(`export type ${type} = (typeof ${ts})[number]`)
    if (values[0].bits)
      lines.push(
        '',
        '/** Bits of one code. */',
        `export const ${ts.replace(/S$/, '')}_BITS: Readonly<Record<${type}, number>> = {`,
        ...values.map(({ name, bits }) => `  ${name}: ${bits},`),
        '}',
      )
    if (!scored) continue
    const names = values.filter(value => value.scored).map(({ name }) => name)
    lines.push('', `/** ${scored} */`, `export const SCORED_FUNCS = ${list(names)}`)
    lines.push('export type ScoredFunc = (typeof SCORED_FUNCS)[number]')
    lines.push(
      '',
      '/** Whether {@link SCORED_FUNCS} has it. */',
      `export const isScored = (scoringFunc: ${type}): scoringFunc is ScoredFunc =>`,
      '  (SCORED_FUNCS as readonly string[]).includes(scoringFunc)',
      '',
      '/** What the command line says of a scoring function. */',
      `export const SCORING_WORDS: Readonly<Record<${type}, string>> = {`,
      ...values.map(({ name, words }) => `  ${name}: ${quoted(words)},`),
      '}',
    )
  }
  return `${lines.join('\n')}\n`
}

/** lib/spec/formats.ts */
export function formatsModule({ formats: { elements, formats } }) {
  const stored = elements.filter(element => element.c)
  const numbered = elements.filter(element => element.gguf !== undefined)
  const floats = stored.filter(element => element.dtype)
  return [
    HEAD('formats.json'),
    '',
    '/** Bits of one element, by dtype string of safetensors. */',
    'export const DTYPE_BITS: Readonly<Record<string, number>> = Object.freeze({',
    '  __proto__: null as never,',
    ...elements.filter(({ bits }) => bits).map(({ name, bits }) => `  ${name}: ${bits},`),
    '})',
    '',
    '/** Names of the types that a plan may read, as safetensors and ggml spell them, in the order of the addon. */',
    `export const STORED_TYPES = ${list(stored.map(({ name }) => name))}`,
    'export type StoredType = (typeof STORED_TYPES)[number]',
    '',
    '/** Bytes of one stored element; where elements are stored in blocks, of one block. */',
    'export const STORED_BYTES: Readonly<Record<StoredType, number>> = {',
    ...stored.map(({ name, bits, blockBytes = bits / 8 }) => `  ${name}: ${blockBytes},`),
    '}',
    '',
    '/** Elements of one block; 1 where each is stored by itself. */',
    'export const STORED_ELEMENTS: Readonly<Record<StoredType, number>> = {',
    ...stored.map(({ name, perBlock = 1 }) => `  ${name}: ${perBlock},`),
    '}',
    '',
    '/** Types of tensors of a GGUF file by their number. */',
    'export const GGUF_TYPES: ReadonlyMap<number, { name: string; blockBytes: number; perBlock: number }> = new Map([',
    ...numbered.map(
      ({ name, gguf, bits, blockBytes = bits / 8, perBlock = 1 }) =>
        `  [${gguf}, { name: ${quoted(name)}, blockBytes: ${blockBytes}, perBlock: ${perBlock} }],`,
    ),
    '])',
    '',
    '/** dtypes that plain values may have. */',
    `export const FLOAT_TYPES = ${list(floats.map(({ name }) => name))}`,
    '',
    '/** Formats in which checkpoints store a matrix. */',
    `export const CODECS = ${list(formats.map(({ name }) => name))}`,
    'export type Codec = (typeof CODECS)[number]',
    '',
    '/** The tensors of a stored matrix, in the order in which they are read. */',
    `export const STORED_PARTS = ${list(PARTS)}`,
    'export type StoredPart = (typeof STORED_PARTS)[number]',
    '',
    '/** What a format is made of. */',
    'export interface StoredFormat {',
    '  /** Types of the weights. */',
    '  readonly data: readonly StoredType[]',
    '  /** Types of the scales. */',
    '  readonly scale: readonly StoredType[]',
    '  /** Tensors that it may have. */',
    '  readonly parts: readonly StoredPart[]',
    '}',
    '',
    'export const STORED_FORMATS: Readonly<Record<Codec, StoredFormat>> = {',
    ...formats.flatMap(({ name, doc, data, scale, parts }) => [
      `  /** ${doc} */`,
      `  ${name}: { data: [${data.map(quoted)}], scale: [${scale.map(quoted)}], parts: [${parts.map(quoted)}] },`,
    ]),
    '}',
    '',
  ].join('\n')
}

/** lib/spec/ggml-grids.ts */
export function gridsModule({ grids: { grids, source } }) {
  return [
    HEAD('ggml-grids.json'),
    '',
    `/** ${source}. Of each entry \`width\` numbers of \`bits\` bits, the first lowest, are indices into \`levels\`. */`,
    'export const GGML_GRIDS = {',
    ...grids.map(
      ({ name, levels, bits, width, rows }) =>
        `  ${name}: { levels: [${levels}], bits: ${bits}, width: ${width}, entries: '${rows.join('')}' },`,
    ),
    '} as const',
    '',
  ].join('\n')
}

/** lib/spec/vectors.ts */
export function vectorsModule({ vectors }) {
  return [
    HEAD('vectors.json'),
    '',
    '/** Small tensors of a block, widened to f32; E counts router outputs, D is latentSize or hiddenSize. */',
    'export interface VectorTensors {',
    ...vectors.flatMap(({ name, shape, element, required, doc }) => [
      `  /** \`${shape}\`${doc ? `, ${doc}` : ''} */`,
      `  ${name}${required ? '' : '?'}: ${element === 'i32' ? 'Int32Array' : 'Float32Array'}`,
    ]),
    '}',
    '',
    '/** Their names, in the order of the addon. */',
    `export const VECTOR_NAMES = ${list(vectors.map(({ name }) => name))}`,
    'export type VectorName = (typeof VECTOR_NAMES)[number]',
    '',
  ].join('\n')
}

/** lib/spec/version.ts: a bundle has no package.json to ask, or another program's. */
export function versionModule({ version }) {
  return [
    '/** Generated from package.json by tools/build/spec.mjs: do not edit. */',
    '',
    '/** Version of this package. */',
    `export const PACKAGE_VERSION = ${quoted(version)}`,
    '',
  ].join('\n')
}
