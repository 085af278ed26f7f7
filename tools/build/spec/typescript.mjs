/** The TypeScript modules of spec/. biome lays them out. */

const HEAD = source => `/** Generated from spec/${source} by tools/build/spec.mjs: do not edit. */`
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
  const floats = stored.filter(element => element.dtype)
  return [
    HEAD('formats.json'),
    '',
    '/** Bits of one element, by dtype string of safetensors. */',
    'export const DTYPE_BITS: Readonly<Record<string, number>> = Object.freeze({',
    '  __proto__: null as never,',
    ...elements.map(({ name, bits }) => `  ${name}: ${bits},`),
    '})',
    '',
    '/** dtype strings of safetensors that a plan may read, in the order of the addon. */',
    `export const STORED_TYPES = ${list(stored.map(({ name }) => name))}`,
    'export type StoredType = (typeof STORED_TYPES)[number]',
    '',
    '/** Bytes of one stored element. */',
    'export const STORED_BYTES: Readonly<Record<StoredType, number>> = {',
    ...stored.map(({ name, bits }) => `  ${name}: ${bits / 8},`),
    '}',
    '',
    '/** dtypes that plain values may have. */',
    `export const FLOAT_TYPES = ${list(floats.map(({ name }) => name))}`,
    '',
    '/** Formats in which checkpoints store a matrix. */',
    `export const CODECS = ${list(formats.map(({ name }) => name))}`,
    'export type Codec = (typeof CODECS)[number]',
    '',
    '/** The tensors of a stored matrix. */',
    "export type StoredPart = 'data' | 'scale' | 'zeroPoint' | 'groupIndex' | 'globalScale'",
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
