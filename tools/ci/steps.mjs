/**
 * The steps of the whole check (.ci/run), one row each, in the order in which they are started. A row:
 *
 * - name, command: the command's first word is a program
 * - report: how tests are counted: 'vitest' (a JSON report beside the log), 'log' (the log ends with "N passed, N failed"), 'none'
 * - inputs: files and folders that the outcome can depend on, '!' takes away again. When none of them has changed since a green run on the
 *   same tools and processor, the step is not run again. Generous on purpose: what nobody thought of must not hide a failure, so rows begin
 *   with everything and take out what certainly has no part. A row without inputs always runs
 * - targets: what the step links, in its tree: a source or header of theirs that is no input is a failure
 * - alone: runs while nothing else does. All others run two at a time
 * - tree: the build tree that it compiles in, which no other step may use meanwhile; otherTree: one more
 * - shards: the landing check takes one part in so many, a different one each time; the step takes --shard I/N
 * - part: one of TURNS: the landing check takes one part of a group, another one each time. Each compiles for minutes, so a part of each would
 *   save little
 * - full: the command of the full check (CI_FULL=1), at least all of the other; `only: 'full'`: no part of the landing check
 * - needs: a program without which the step cannot run and is said to be missing
 * - standsInFor: flags of a processor that the step does without. One that has them all runs the same in other steps, so the landing check
 *   leaves this one out there
 */

const npm = (script, ...args) => [
  'npm',
  'run',
  '--silent',
  script,
  ...(args.length > 0 ? ['--', ...args] : []),
]

/** What no compiled or tested thing reads. A new folder is an input of everything until it is named here or below. */
const APART = [
  ...[
    '.ci',
    '.clang-format',
    '.clang-tidy',
    '.editorconfig',
    '.gitattributes',
    '.github',
    '.gitignore',
    'biome.json',
  ],
  ...[
    'CHANGELOG.md',
    'CONTRIBUTING.md',
    'LICENSE',
    'NOTICE.md',
    'README.md',
    'SECURITY.md',
    'binding.gyp',
    'docs',
  ],
  ...['test/docs', 'test/llama', 'test/package', 'test/tools', 'tools/check', 'tools/ci', 'tools/release'],
]
/** Everything in the repository but what stands apart, less `kept`, and the named. */
const allBut = (names, kept = []) => [
  '.',
  ...[...APART.filter(name => !kept.includes(name)), ...names].map(name => `!${name}`),
]
/** Not `lib/devices`: the C++ tests take their bounds from it. */
const TYPESCRIPT = [
  ...['api', 'block', 'checkpoint', 'cli', 'doctor', 'families', 'index.ts', 'reference'].map(
    name => `lib/${name}`,
  ),
  ...['examples', 'tsconfig.build.json', 'tsconfig.json', 'tsconfig.programs.json', 'vitest.config.ts'],
  ...[
    'api',
    'bench',
    'cli',
    'devices',
    'examples',
    'golden',
    'helpers',
    'hostile',
    'ops',
    'tiny',
    'types',
    'unit',
  ].map(name => `test/${name}`),
]
const GPU = ['csrc/cuda', 'emulator', 'test/conformance', 'test/conformance90', 'test/cuda']
/** Programs without Node: of the CPU backend and the engine, and of kernels on the emulator. */
const NATIVE = allBut([...TYPESCRIPT, ...GPU, 'csrc/binding', 'bench'])
const KERNELS = allBut([...TYPESCRIPT, 'csrc/binding', 'csrc/cpu', 'csrc/engine', 'csrc/transport'])
/** Suites through the TypeScript API. */
const NO_SUITES = ['bench', 'test/bench', 'test/cli', 'test/examples', 'test/types']
const SUITES = allBut(NO_SUITES)
const CPU_SUITES = allBut([...NO_SUITES, ...GPU])
/** The part of them that runs on other platforms. */
const PLATFORM_SUITES = allBut([...NO_SUITES, ...GPU, 'test/golden', 'test/unit', 'test/hostile'])
const BENCH = allBut([...GPU, 'test/cli', 'test/examples', 'test/types'])

/** Groups of steps that take turns, by their parts: the detectors of the emulator, the platforms that are emulated. */
export const TURNS = { detectors: ['race', 'address'], platforms: ['arm64', 'windows'] }

export const STEPS = [
  // What the README tells a newcomer to run. Some of it looks at the event loop's delay, at memory and at processes that end.
  { name: 'test', command: ['npm', 'test'], report: 'vitest', alone: true },
  { name: 'lint', command: npm('lint'), report: 'none' },
  { name: 'typecheck', command: npm('typecheck'), report: 'none' },
  { name: 'lint-publish', command: npm('lint:publish'), report: 'none' },

  // The longest first, so that no long one is left for the end: instrumented builds and runs, those of one tree after each other.
  {
    name: 'asan-native',
    command: npm('test:native', '--sanitize', 'address'),
    report: 'log',
    tree: 'address',
    targets: ['native_tests'],
    shards: 6,
    inputs: NATIVE,
  },
  {
    name: 'engine-address',
    command: npm('test:engine', '--sanitize', 'address'),
    report: 'log',
    tree: 'address',
    targets: ['engine_tests'],
    inputs: NATIVE,
  },
  {
    name: 'emulator-race',
    part: 'race',
    // The devices of the two detectors differ: on sm_90 the matmuls of every case run on wgmma as well.
    command: npm('test:emulator', '--flavour', 'race', '--capability', '90'),
    report: 'log',
    tree: 'emulator-race',
    targets: ['emulator_tests', 'cuda_tests', 'conformance', 'conformance90'],
    shards: 2,
    inputs: KERNELS,
  },
  {
    name: 'asan-suite',
    command: npm('test:asan'),
    report: 'vitest',
    tree: 'address',
    targets: ['sparse_experts'],
    shards: 4,
    inputs: CPU_SUITES,
  },
  {
    name: 'cuda-race',
    part: 'race',
    command: npm('test:cuda', '--flavour', 'race', '--schedule', 'skewed', '--capability', '90'),
    report: 'vitest',
    tree: 'emulator-race',
    targets: ['sparse_experts_cuda'],
    shards: 4,
    inputs: SUITES,
  },
  {
    name: 'emulator-address',
    part: 'address',
    command: npm('test:emulator', '--flavour', 'address'),
    report: 'log',
    tree: 'emulator-address',
    targets: ['emulator_tests', 'cuda_tests', 'conformance', 'conformance90'],
    shards: 2,
    inputs: KERNELS,
  },
  {
    name: 'cuda-address',
    part: 'address',
    command: npm('test:cuda', '--flavour', 'address'),
    report: 'vitest',
    tree: 'emulator-address',
    // The addon beside the emulated backend.
    otherTree: 'address',
    targets: ['sparse_experts_cuda'],
    shards: 4,
    inputs: SUITES,
  },
  {
    name: 'cuda',
    command: npm('test:cuda'),
    report: 'vitest',
    tree: 'emulator',
    targets: ['sparse_experts_cuda'],
    shards: 2,
    inputs: SUITES,
  },
  {
    name: 'emulator',
    // The flavours share the schedules out: forward through the API, random here, skewed with the race detector, reverse under AddressSanitizer.
    command: npm('test:emulator', '--schedule', 'random'),
    full: npm('test:emulator'),
    report: 'log',
    tree: 'emulator',
    targets: ['emulator_tests', 'cuda_tests', 'conformance', 'conformance90'],
    shards: 2,
    inputs: KERNELS,
  },
  {
    name: 'kernels',
    command: npm('check:kernels'),
    report: 'none',
    tree: 'cuda',
    targets: ['sparse_experts_cuda', 'matmul_configs'],
    needs: 'nvcc',
    inputs: allBut(
      [...TYPESCRIPT, 'csrc/binding', 'csrc/cpu', 'csrc/engine', 'csrc/transport', 'emulator'],
      ['tools/check', 'docs'],
    ),
  },
  {
    name: 'tsan-native',
    command: npm('test:native', '--sanitize', 'thread'),
    report: 'log',
    tree: 'thread',
    targets: ['native_tests'],
    shards: 4,
    inputs: NATIVE,
  },
  {
    name: 'engine-thread',
    command: npm('test:engine', '--sanitize', 'thread'),
    report: 'log',
    tree: 'thread',
    targets: ['engine_tests'],
    inputs: NATIVE,
  },
  {
    name: 'hostile',
    command: npm('test:hostile'),
    full: npm('test:hostile', '--times', '20', '--seed', 'random'),
    report: 'log',
    inputs: CPU_SUITES,
  },
  { name: 'isa', command: npm('test:isa'), report: 'log', inputs: CPU_SUITES },
  {
    name: 'cpp',
    command: npm('check:cpp', '--quick'),
    full: npm('check:cpp'),
    report: 'none',
    tree: 'tidy',
    shards: 3,
    inputs: allBut(TYPESCRIPT, ['.clang-tidy', 'tools/check']),
  },
  {
    name: 'arm64',
    command: npm('test:native', '--target', 'linux-arm64'),
    report: 'log',
    tree: 'linux-arm64',
    targets: ['native_tests'],
    shards: 4,
    inputs: NATIVE,
  },
  {
    name: 'platform-arm64',
    part: 'arm64',
    command: npm('test:platform', '--target', 'linux-arm64', '--quick'),
    report: 'vitest',
    tree: 'linux-arm64',
    targets: ['sparse_experts'],
    needs: 'qemu-aarch64',
    inputs: PLATFORM_SUITES,
  },
  {
    name: 'platform-windows',
    part: 'windows',
    command: npm('test:platform', '--target', 'win32-x64', '--quick'),
    report: 'vitest',
    tree: 'win32-x64',
    targets: ['sparse_experts'],
    needs: 'wine',
    inputs: PLATFORM_SUITES,
  },
  {
    name: 'avx512',
    command: npm('test:native', '--target', 'avx512'),
    report: 'log',
    tree: 'avx512',
    targets: ['native_tests'],
    shards: 4,
    standsInFor: ['avx512bw', 'avx512vl', 'avx512dq', 'avx512vbmi', 'avx512_vnni', 'avx512_bf16'],
    inputs: NATIVE,
  },
  {
    name: 'counts',
    command: npm('check:counts', '--check'),
    report: 'none',
    tree: 'emulator',
    targets: ['cuda_counts'],
    inputs: allBut(
      [...TYPESCRIPT, 'csrc/binding', 'csrc/cpu', 'csrc/engine', 'csrc/transport'],
      ['tools/check', 'docs'],
    ),
  },
  {
    name: 'fuzz',
    command: npm('test:fuzz', '--seconds', '5'),
    // Ten million mutations, some 25 minutes (7,000 a second on a busy core); the time ends what takes longer.
    full: npm('test:fuzz', '--runs', '10000000', '--seconds', '3600'),
    report: 'none',
    tree: 'fuzz',
    targets: ['decode_fuzz'],
    inputs: NATIVE,
  },
  {
    name: 'llama',
    command: npm('test:llama'),
    report: 'vitest',
    only: 'full',
    inputs: allBut([...GPU, 'test/cli', 'test/examples', 'test/types'], ['test/llama']),
  },
  {
    name: 'package',
    command: npm('test:package', 'test/package/tarball.test.ts'),
    full: npm('test:package'),
    report: 'vitest',
    // Of the full check alone; what is packed for a machine with a GPU is made in one place.
    tree: 'gpu-emulated',
    inputs: ['.', '!bench', '!docs', '!emulator', '!examples', '!tools/ci'],
  },
  {
    name: 'gpu-window',
    // Fifteen minutes on a machine with a GPU, rehearsed on the emulator.
    command: npm('test:package', 'test/package/gpu-window.test.ts'),
    report: 'vitest',
    tree: 'gpu-emulated',
    targets: ['conformance', 'conformance90', 'cuda_tests', 'cuda_rows', 'cuda_bench', 'cuda_tune'],
    inputs: allBut(
      [...TYPESCRIPT, 'csrc/binding', 'csrc/cpu', 'csrc/engine', 'csrc/transport'],
      ['test/package', 'tools/release'],
    ),
  },
  {
    name: 'programs',
    command: npm('test:programs'),
    report: 'vitest',
    // Examples, benchmarks and tools, this list among them.
    inputs: ['.'],
  },
  { name: 'demo', command: npm('demo'), report: 'none', inputs: BENCH },
  // Fifty clients of the completion server for a minute, each of whose streams is checked.
  {
    name: 'tiny-load',
    command: npm('tiny:load', '--clients', '50', '--seconds', '60', '--hang-ups', '5'),
    report: 'none',
    only: 'full',
    inputs: BENCH,
  },
  // Are the benchmarks alive? Their figures mean nothing here.
  { name: 'bench', command: npm('bench', '--quick'), report: 'none', inputs: BENCH },
  {
    name: 'bench-goals',
    command: [
      'bash',
      '-c',
      'npm run --silent bench:goals -- --quick --out build/reports/bench && npm run --silent bench:report -- --results build/reports/bench --out build/reports/bench',
    ],
    report: 'none',
    tree: 'bench-report',
    inputs: BENCH,
  },
  {
    name: 'charts',
    command: [
      'bash',
      '-c',
      '[ -d bench/report/node_modules/vega ] || npm ci --prefix bench/report --ignore-scripts --no-audit --no-fund && exec npm run --silent test:programs -- "$@"',
      'charts',
      'test/bench/charts.test.ts',
      'test/tiny/charts.test.ts',
    ],
    report: 'vitest',
    tree: 'bench-report',
    inputs: BENCH,
  },
]
