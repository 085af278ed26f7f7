/** The C and C++ headers of spec/. clang-format lays them out. */

const HEAD = source => `// Generated from spec/${source} by tools/build/spec.mjs: do not edit.`

const quoted = text => JSON.stringify(text)
const firstUpper = text => text[0].toUpperCase() + text.slice(1)

/** SeGroupScore → kGroupScores. */
const tableName = ({ c }) => `k${c.replace(/^Se/, '')}Names`

/** abi/enums.h: plain C, part of the ABI. */
export function enumsHeader({ enums }) {
  const lines = [
    '/* Generated from spec/enums.json by tools/build/spec.mjs: do not edit. Part of the C ABI',
    ' * (abi/backend.h): a changed number or meaning raises SE_BACKEND_ABI_VERSION. */',
    '#ifndef SPARSE_EXPERTS_ENUMS_H_',
    '#define SPARSE_EXPERTS_ENUMS_H_',
  ]
  for (const group of enums) {
    lines.push('', `/* ${group.doc} */`, `typedef enum ${group.c} {`)
    const values = group.absent ? [{ c: group.absent, doc: 'there is none' }, ...group.values] : group.values
    values.forEach(({ c, doc }, number) => {
      const comma = number + 1 < values.length ? ',' : ''
      lines.push(`  ${c} = ${number}${comma}${doc ? ` /* ${doc} */` : ''}`)
    })
    lines.push(`} ${group.c};`)
  }
  lines.push('', '#endif /* SPARSE_EXPERTS_ENUMS_H_ */', '')
  return lines.join('\n')
}

/** abi/enum_names.h: the names that JavaScript and messages use. */
export function enumNamesHeader({ enums }) {
  const lines = [
    HEAD('enums.json'),
    '// The names of abi/enums.h as users write them, and what explain() says of a value.',
    '#pragma once',
    '',
    '#include <cstddef>',
    '#include <cstdint>',
    '',
    '#include "abi/enums.h"',
    '',
    'namespace sparse_experts {',
    '',
    'struct EnumName {',
    '  const char* name;',
    '  int32_t value;',
    '  const char* explanation = nullptr;',
    '};',
    '',
    '// The row of a value; NULL for a number that is none.',
    'template <size_t kSize>',
    'constexpr const EnumName* find_name(const EnumName (&names)[kSize], int32_t value) {',
    '  for (const EnumName& row : names) {',
    '    if (row.value == value) return &row;',
    '  }',
    '  return nullptr;',
    '}',
  ]
  for (const group of enums) {
    lines.push('', `constexpr EnumName ${tableName(group)}[] = {`)
    for (const { c, name, explain } of group.values)
      lines.push(`  {${quoted(name)}, ${c}${explain ? `, ${quoted(explain)}` : ''}},`)
    lines.push('};')
  }
  const sizes = [
    ['SeMatrixCode', 'bits', 'Bits of one code', 'code'],
    ['SeScale', 'bytes', 'Bytes of one scale', 'scale'],
    ['SeOffset', 'bytes', 'Bytes of one offset', 'offset'],
  ]
  for (const [group, unit, doc, name] of sizes) {
    const { values } = enums.find(({ c }) => c === group)
    lines.push(
      '',
      `// ${doc}; 0 for a number that is none.`,
      `constexpr int64_t ${name}_${unit}(int32_t ${name}) {`,
      ...values
        .filter(value => value[unit])
        .map(value => `  if (${name} == ${value.c}) return ${value[unit]};`),
      '  return 0;',
      '}',
    )
  }
  const scoring = enums.find(group => group.scored)
  lines.push(
    '',
    `// ${scoring.scored}`,
    'constexpr bool is_scored(int32_t scoring) {',
    `  return ${scoring.values
      .filter(value => value.scored)
      .map(value => `scoring == ${value.c}`)
      .join(' || ')};`,
    '}',
    '',
    '}  // namespace sparse_experts',
    '',
  )
  return lines.join('\n')
}

/** core/value_tables.h: what the codes of a matrix stand for. */
export function valueTablesHeader({ enums }) {
  const { values } = enums.find(({ c }) => c === 'SeValueTable')
  const entries = ({ bias, integers }) =>
    integers ?? (bias === undefined ? [] : Array.from({ length: 64 }, (_, index) => index - bias))
  return [
    HEAD('enums.json'),
    '// What the codes of a matrix stand for: table[code] * factor, which is exact in f16, bf16 and f32.',
    '#pragma once',
    '',
    '#include <stdint.h>',
    '',
    '#include "abi/enums.h"',
    '',
    'namespace sparse_experts {',
    '',
    'struct ValueTable {',
    '  int8_t integers[64];',
    '  int32_t size;    // codes from here on are invalid; 64: the code may have any of its bits',
    '  int32_t bias;    // integers[code] = code - bias, where is_affine',
    '  bool is_affine;',
    '  float factor;    // a power of two',
    '};',
    '',
    '// By SeValueTable.',
    'constexpr ValueTable kValueTables[] = {',
    ...values.map(value => {
      const integers = entries(value)
      return `  {{${integers.join(', ')}}, ${integers.length}, ${value.bias ?? 0}, ${value.bias !== undefined}, ${(value.factor ?? 1).toFixed(3)}f}, // ${value.name}`
    }),
    '};',
    '',
    '}  // namespace sparse_experts',
    '',
  ].join('\n')
}

/** core/vectors.h: the small tensors of a block. */
export function vectorsHeader({ vectors }) {
  const role = name => `k${firstUpper(name)}`
  return [
    HEAD('vectors.json'),
    '// Small tensors of a block: E counts router outputs, H the hidden size, D the latent or hidden size.',
    '#pragma once',
    '',
    'namespace sparse_experts {',
    '',
    'enum VectorRole {',
    ...vectors.map(({ name, shape, doc }) => `  ${role(name)}, // ${shape}${doc ? `, ${doc}` : ''}`),
    '  kNumVectors',
    '};',
    '',
    '// Their names in JavaScript, by role.',
    'constexpr const char* kVectorNames[kNumVectors] = {',
    ...vectors.map(({ name }) => `  ${quoted(name)},`),
    '};',
    '',
    '}  // namespace sparse_experts',
    '',
  ].join('\n')
}

/** Parts that only some formats have, in the order of CodecRow. */
export const OPTIONAL_PARTS = ['zeroPoint', 'groupIndex', 'globalScale', 'columnScale']

/** formats/stored_types.h: elements and formats of checkpoints. */
export function storedTypesHeader({ formats: { elements, formats } }) {
  const types = elements.filter(element => element.c)
  const typeOf = name => `StoredType::${types.find(type => type.name === name).c}`
  const set = names => `types_of({${names.map(typeOf).join(', ')}})`
  const dtypes = types.filter(type => type.dtype)
  return [
    HEAD('formats.json'),
    '// Elements of stored tensors, and the formats in which checkpoints store a matrix.',
    '#pragma once',
    '',
    '#include <cstdint>',
    '#include <initializer_list>',
    '',
    '#include "abi/enums.h"',
    '',
    'namespace sparse_experts {',
    '',
    `enum class StoredType : int32_t { ${types.map(({ c }) => c).join(', ')} };`,
    '',
    'struct StoredTypeRow {',
    '  const char* name;  // as safetensors and ggml spell it',
    '  int64_t bytes;     // of one block',
    '  int64_t elements;  // in one block',
    '};',
    '',
    '// By StoredType.',
    'constexpr StoredTypeRow kStoredTypes[] = {',
    ...types.map(
      ({ name, bits, blockBytes = bits / 8, perBlock = 1 }) =>
        `  {${quoted(name)}, ${blockBytes}, ${perBlock}},`,
    ),
    '};',
    '',
    'constexpr bool is_stored_type(StoredType type) {',
    `  return type >= StoredType::${types[0].c} && type <= StoredType::${types.at(-1).c};`,
    '}',
    '',
    '// Bytes of one element; where elements are stored in blocks, of one block.',
    'constexpr int64_t stored_type_bytes(StoredType type) {',
    '  return is_stored_type(type) ? kStoredTypes[static_cast<int32_t>(type)].bytes : 0;',
    '}',
    '',
    '// Elements of one block; 1 where each is stored by itself.',
    'constexpr int64_t stored_type_elements(StoredType type) {',
    '  return is_stored_type(type) ? kStoredTypes[static_cast<int32_t>(type)].elements : 0;',
    '}',
    '',
    '// The elements of a dtype, as they are stored.',
    'constexpr StoredType stored_type_of(int32_t dtype) {',
    `  return ${dtypes
      .slice(0, -1)
      .map(({ c, dtype }) => `dtype == SE_${dtype.toUpperCase()} ? StoredType::${c} : `)
      .join('')}StoredType::${dtypes.at(-1).c};`,
    '}',
    '',
    '// A set of StoredTypes.',
    'using StoredTypes = uint64_t;',
    'constexpr StoredTypes types_of(std::initializer_list<StoredType> types) {',
    '  StoredTypes set = 0;',
    '  for (const StoredType type : types) set |= uint64_t{1} << static_cast<uint32_t>(type);',
    '  return set;',
    '}',
    'constexpr bool contains(StoredTypes set, StoredType type) {',
    '  return is_stored_type(type) && (set >> static_cast<uint32_t>(type) & 1) != 0;',
    '}',
    '',
    'enum class Codec : int32_t {',
    ...formats.flatMap(({ c, doc }) => [...wrapped(doc), `  ${c},`]),
    '};',
    '',
    'struct CodecRow {',
    '  const char* name;',
    '  StoredTypes data;',
    '  StoredTypes scale;',
    '  bool has_zero_point;',
    '  bool has_group_index;',
    '  bool has_global_scale;',
    '  bool has_column_scale;',
    '  bool is_input_major;  // scales and zero points lie along the rows of the matrix',
    '  bool has_zero_offset;  // files may store the zero point minus one',
    '  bool is_scale_optional;',
    "  bool has_signs;  // elements may be two's complement",
    '};',
    '',
    '// By Codec.',
    'constexpr CodecRow kCodecs[] = {',
    ...formats.map(
      ({ name, data, scale, parts, inputMajor, zeroOffset, scaleOptional, signs }) =>
        `  {${quoted(name)}, ${set(data)}, ${set(scale)}, ${OPTIONAL_PARTS.map(part => parts.includes(part)).join(', ')}, ${[inputMajor, zeroOffset, scaleOptional, signs].map(flag => flag === true).join(', ')}},`,
    ),
    '};',
    `constexpr int32_t kNumCodecs = ${formats.length};`,
    '',
    '}  // namespace sparse_experts',
    '',
  ].join('\n')
}

/** formats/ggml/grids.h: the constant tables of IQ1 to IQ3. */
export function gridsHeader({ grids: { grids, source } }) {
  return [
    HEAD('ggml-grids.json'),
    ...wrapped(`${source}.`).map(line => line.trim()),
    '#pragma once',
    '',
    '#include <cstdint>',
    '',
    'namespace sparse_experts {',
    ...grids.flatMap(({ name, levels, bits, width, rows }) => {
      const entries = rows.join('').match(/.{4}/g)
      return [
        '',
        `// ${width} numbers of ${bits} bits an entry, the first lowest: indices into ${levels.join(', ')}.`,
        `constexpr uint16_t k${name.replace('_', '')}Grid[${entries.length}] = {${entries.map(entry => `0x${entry}`).join(', ')}};`,
      ]
    }),
    '',
    '}  // namespace sparse_experts',
    '',
  ].join('\n')
}

/** A comment in lines of at most 96 characters. */
function wrapped(text) {
  const lines = ['']
  for (const word of text.split(' ')) {
    if (lines.at(-1).length + word.length > 90) lines.push('')
    lines[lines.length - 1] += ` ${word}`
  }
  return lines.map(line => `  //${line}`)
}
