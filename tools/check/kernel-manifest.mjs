/**
 * Which kernels stand behind each operation and dtype that the CUDA library advertises. A cell is an operation with a dtype of its
 * arrays; it needs all of its kernels on every architecture that the library is compiled for.
 */

const TYPE = { f32: 'float', f16: 'F16', bf16: 'Bf16' }
const DTYPES = Object.keys(TYPE)

/** Operation → for a dtype, the patterns that each need a kernel. */
const OPERATIONS = {
  // The dtype of the hidden states; router weights come in any.
  gate: dtype =>
    DTYPES.flatMap(weight => [
      new RegExp(`^router_rows_kernel<${TYPE[dtype]}, ${TYPE[weight]}\\b`),
      new RegExp(`^router_tile_kernel<${TYPE[dtype]}, ${TYPE[weight]}\\b`),
    ]),
  selectExperts: dtype =>
    dtype === 'f32'
      ? [/^select_kernel</, /^queue_per_sequence_kernel$/, /^queue_over_batch_kernel$/, /^drop_slots_kernel$/]
      : [],
  dispatch: dtype =>
    dtype === 'i32' ? [/^dispatch_small_kernel/, /^dispatch_count_kernel/, /^dispatch_place_kernel/] : [],
  expertMatmul: dtype =>
    dtype === 'f32'
      ? [/^f32_expert_matmul_kernel</]
      : [new RegExp(`^half_expert_matmul_kernel<.*\\b${TYPE[dtype]}\\b`)],
  // The dtype of the output.
  combine: dtype => [new RegExp(`^combine_kernel<${TYPE[dtype]}\\b`)],
  convert: dtype =>
    DTYPES.filter(to => to !== dtype).map(to => new RegExp(`^convert_kernel<${TYPE[dtype]}, ${TYPE[to]}\\b`)),
}

/** The cells that the library advertises: every stage in every dtype of its arrays. */
export const ADVERTISED = [
  ...DTYPES.map(dtype => ({ op: 'gate', dtype })),
  { op: 'selectExperts', dtype: 'f32' },
  { op: 'dispatch', dtype: 'i32' },
  ...DTYPES.map(dtype => ({ op: 'expertMatmul', dtype })),
  ...DTYPES.map(dtype => ({ op: 'combine', dtype })),
  ...DTYPES.map(dtype => ({ op: 'convert', dtype })),
]

/** The manifest of these kernels (name → { architectures }), and what is missing from it. */
export function checkManifest(kernels) {
  const names = Object.keys(kernels)
  const architectures = [...new Set(names.flatMap(name => Object.keys(kernels[name].architectures)))].sort(
    (a, b) => a - b,
  )
  const problems = []
  const manifest = ADVERTISED.map(({ op, dtype }) => {
    const patterns = OPERATIONS[op](dtype)
    if (patterns.length === 0) problems.push(`${op} ${dtype}: no kernel is named for it`)
    const found = new Set()
    for (const pattern of patterns) {
      for (const architecture of architectures) {
        const there = names.filter(name => pattern.test(name) && kernels[name].architectures[architecture])
        for (const name of there) found.add(name)
        if (there.length === 0)
          problems.push(`${op} ${dtype}, sm_${architecture}: no kernel like ${pattern.source}`)
      }
    }
    return { op, dtype, architectures, kernels: [...found].sort() }
  })
  return { manifest, problems }
}
