/** docs/performance/kernels.md from the figures of tools/check/kernels.mjs. */

const line = cells => `| ${cells.join(' | ')} |`
const table = (head, rows) => [
  line(head),
  line(head.map((_, i) => (i === 0 ? '---' : '---:'))),
  ...rows.map(line),
]

export function kernelTable({ nvcc, kernels, manifest }, configs) {
  const entries = Object.entries(kernels)
  const architectures = [...new Set(entries.flatMap(([, kernel]) => Object.keys(kernel.architectures)))].sort(
    (a, b) => a - b,
  )
  const code = name => `\`${name}\``
  const resources = entries.map(([name, kernel]) => [
    code(name),
    kernel.threads,
    ...architectures.map(architecture => {
      const figures = kernel.architectures[architecture]
      return figures ? `${figures.registers} / ${figures.blocks}` : '–'
    }),
    Math.max(...Object.values(kernel.architectures).map(figures => figures.shared)),
  ])
  const loops = entries
    .filter(([, kernel]) => Object.values(kernel.architectures).some(figures => figures.loop))
    .map(([name, kernel]) => [
      code(name),
      ...architectures.map(architecture => {
        const loop = kernel.architectures[architecture]?.loop
        return loop ? `${loop.mma} / ${loop.instructions} / ${loop.cycles}` : '–'
      }),
    ])
  const census = Object.keys(entries[0][1].instructions).filter(key => key !== 'local')
  const most = key => Math.max(...entries.flatMap(([, k]) => Object.values(k.architectures).map(f => f[key])))
  return `${[
    '# What the kernels compile to',
    '',
    'Written by `npm run check:kernels -- --write`; CI compares and fails where a figure got worse. These are a compiler’s figures, no measurements.',
    '',
    `nvcc ${nvcc}; ${entries.length} kernels, ${architectures.length} architectures. Largest stack frame ${most('stack')} bytes, spills ${most('spills')} bytes, local memory accesses 0 (all three are gated at 0).`,
    '',
    '## Registers and occupancy',
    '',
    'Per architecture: registers per thread / blocks that fit on a multiprocessor by registers, warps and static shared memory (data-sheet limits; the',
    'dynamic shared memory of a launch, where there is any, is not in it). Shared: static bytes, the most of any architecture.',
    '',
    ...table(['kernel', 'threads', ...architectures.map(a => `sm_${a}`), 'shared'], resources),
    '',
    '## Instructions',
    '',
    'Lines of PTX for the oldest architecture of each kernel, loops counted once.',
    '',
    ...table(
      ['kernel', ...census],
      entries.map(([name, kernel]) => [code(name), ...census.map(key => kernel.instructions[key] || '')]),
    ),
    '',
    '## Loops of products',
    '',
    'Of each kernel with `mma`, the loop without a branch that has the most of them, of several the slowest: mma / all instructions / cycles in which one warp issues a round, branch back included,',
    'read from the machine code (tools/check/machine-code.mjs). For the largest tile they are gated: at most 3 % more than the mma alone take, which is',
    '8 cycles each on sm_80 and 6 on sm_90.',
    '',
    ...table(['kernel', ...architectures.map(a => `sm_${a}`)], loops),
    '',
    '## Configurations',
    '',
    'What the two matmuls of the published shapes run in bf16 (`bench/gpu/configs.cc`), and the warps that a multiprocessor then holds. Where',
    'GPUs agree, the row names all of them.',
    '',
    ...table(
      [
        'shape',
        'T',
        'matmul',
        'GPUs',
        'columns x tokens x K, pipeline',
        'dynamic shared, KiB',
        'warps per multiprocessor',
      ],
      configRows(configs),
    ),
    '',
    '## Manifest',
    '',
    'Kernels behind each operation and dtype, on every architecture where the table of variants (`csrc/cuda/variants.cc`) runs them.',
    '',
    ...table(
      ['operation', 'dtype', 'kernels'],
      manifest.map(({ op, dtype, kernels: names }) => [op, dtype, names.length]),
    ),
    '',
  ].join('\n')}`
}

/** One row for all GPUs that get the same, but for the size of their grids. */
function configRows(configs) {
  const rows = new Map()
  for (const config of configs) {
    const text = config.text.replace(/, \d+ blocks, \d+ per multiprocessor$/, '')
    const warps = (config.threads / 32) * config.blocks
    const cells = [config.shape, config.tokens, config.matmul]
    const key = [...cells, text, config.sharedBytes, warps].join('|')
    const row = rows.get(key) ?? {
      cells,
      gpus: [],
      rest: [text, (config.sharedBytes / 1024).toFixed(0), warps],
    }
    row.gpus.push(config.gpu)
    rows.set(key, row)
  }
  return [...rows.values()].map(({ cells, gpus, rest }) => [
    ...cells,
    gpus.length === new Set(configs.map(config => config.gpu)).size ? 'all' : gpus.join(', '),
    ...rest,
  ])
}
