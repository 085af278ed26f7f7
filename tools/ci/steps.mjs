/**
 * The steps of the whole check (.ci/run), one row each, in the order in which they are started. A row:
 *
 * - name, command: the command's first word is a program
 * - report: how tests are counted: 'vitest' (a JSON report beside the log), 'log' (the log ends with "N passed, N failed"), 'none'
 * - inputs: files and folders that the outcome can depend on, '!' takes away again. When none of them has changed since a green run on the
 *   same tools and processor, the step is not run again. Generous on purpose: what nobody thought of must not hide a failure, so folders are
 *   named whole and only what certainly has no part is taken out. A row without inputs always runs
 * - alone: runs while nothing else does. All others run two at a time
 * - tree: the build tree that it compiles in, which no other step may use meanwhile
 * - shards: the landing check takes one part in so many, a different one each time; the step takes --shard I/N
 * - full: the command of the full check (CI_FULL=1), at least all of the other; `only: 'full'`: no part of the landing check
 * - needs: a program without which the step cannot run and is said to be missing
 */

const npm = (script, ...args) => [
  'npm',
  'run',
  '--silent',
  script,
  ...(args.length > 0 ? ['--', ...args] : []),
]

/** What every step depends on: how things are built and started. */
const TOOLS = [
  'CMakeLists.txt',
  'CMakePresets.json',
  'cmake',
  'package.json',
  'package-lock.json',
  'tools/build',
  'tools/test',
  'tools/repository.mjs',
]
/** The native units: everything but the CUDA backend and Node's side. */
const NATIVE = [...TOOLS, 'csrc', '!csrc/cuda', '!csrc/binding', 'test/native', 'test/cases']
/** Kernels and their host code on the emulator, without Node. */
const KERNELS = [
  ...TOOLS,
  'csrc',
  '!csrc/cpu',
  '!csrc/binding',
  'emulator',
  'test/cuda',
  'test/native',
  'test/conformance',
  'test/cases',
  'bench/gpu',
]
/** Suites through the TypeScript API: the library whole, and all of test/ but what has no native code in it. */
const SUITES = [
  ...TOOLS,
  'csrc',
  'lib',
  'test',
  '!test/bench',
  '!test/cli',
  '!test/docs',
  '!test/examples',
  '!test/package',
  '!test/tools',
  'examples',
  'vitest.config.ts',
  'tsconfig.json',
  'tsconfig.programs.json',
]
const WITHOUT_GPU = ['!csrc/cuda', '!test/cuda', '!test/conformance']
const BENCH = [...SUITES, ...WITHOUT_GPU, 'bench', 'examples']

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
    inputs: NATIVE,
  },
  {
    name: 'emulator-race',
    command: npm('test:emulator', '--flavour', 'race'),
    report: 'log',
    tree: 'emulator-race',
    inputs: KERNELS,
  },
  {
    name: 'asan-suite',
    command: npm('test:asan'),
    report: 'vitest',
    tree: 'address',
    inputs: [...SUITES, ...WITHOUT_GPU],
  },
  {
    name: 'cuda-race',
    command: npm('test:cuda', '--flavour', 'race', '--schedule', 'skewed'),
    report: 'vitest',
    tree: 'emulator-race',
    shards: 4,
    inputs: [...SUITES, 'emulator'],
  },
  {
    name: 'emulator-address',
    command: npm('test:emulator', '--flavour', 'address'),
    report: 'log',
    tree: 'emulator-address',
    inputs: KERNELS,
  },
  {
    name: 'cuda-address',
    command: npm('test:cuda', '--flavour', 'address'),
    report: 'vitest',
    tree: 'emulator-address',
    shards: 4,
    inputs: [...SUITES, 'emulator'],
  },
  {
    name: 'cuda',
    command: npm('test:cuda'),
    report: 'vitest',
    tree: 'emulator',
    inputs: [...SUITES, 'emulator'],
  },
  {
    name: 'emulator',
    // The flavours share the schedules out: forward through the API, random here, skewed with the race detector, reverse under AddressSanitizer.
    command: npm('test:emulator', '--schedule', 'random'),
    full: npm('test:emulator'),
    report: 'log',
    tree: 'emulator',
    inputs: KERNELS,
  },
  {
    name: 'kernels',
    command: npm('check:kernels'),
    report: 'none',
    tree: 'cuda',
    needs: 'nvcc',
    inputs: [
      ...TOOLS,
      'csrc',
      '!csrc/cpu',
      '!csrc/binding',
      '!csrc/engine',
      'tools/check',
      'bench',
      'docs/performance/kernels.json',
    ],
  },
  {
    name: 'tsan-native',
    command: npm('test:native', '--sanitize', 'thread'),
    report: 'log',
    tree: 'thread',
    inputs: NATIVE,
  },
  { name: 'isa', command: npm('test:isa'), report: 'log', inputs: [...SUITES, ...WITHOUT_GPU] },
  {
    name: 'cpp',
    command: npm('check:cpp', '--quick'),
    full: npm('check:cpp'),
    report: 'none',
    tree: 'tidy',
    inputs: [...TOOLS, '.clang-tidy', 'csrc', 'emulator', 'test', 'bench', 'tools/check'],
  },
  {
    name: 'arm64',
    command: npm('test:native', '--target', 'aarch64'),
    report: 'log',
    tree: 'aarch64',
    inputs: NATIVE,
  },
  {
    name: 'avx512',
    command: npm('test:native', '--target', 'avx512'),
    report: 'log',
    tree: 'avx512',
    inputs: NATIVE,
  },
  {
    name: 'counts',
    command: npm('check:counts', '--check'),
    report: 'none',
    tree: 'emulator',
    inputs: [...KERNELS, 'bench', 'tools/check', 'docs/performance/counts.md'],
  },
  {
    name: 'fuzz',
    command: npm('test:fuzz', '--seconds', '5'),
    full: npm('test:fuzz', '--seconds', '600'),
    report: 'none',
    tree: 'fuzz',
    inputs: NATIVE,
  },
  {
    name: 'package',
    command: npm('test:package', 'test/package/tarball.test.ts'),
    full: npm('test:package'),
    report: 'vitest',
    inputs: [
      ...TOOLS,
      'csrc',
      'lib',
      'test/package',
      'tools',
      'binding.gyp',
      'tsconfig.build.json',
      'README.md',
    ],
  },
  { name: 'demo', command: npm('demo'), report: 'none', inputs: BENCH },
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
      'npm ci --prefix bench/report --ignore-scripts --no-audit --no-fund && exec npm test -- --typecheck.enabled=false "$@"',
      'charts',
      'test/bench/charts.test.ts',
      'test/tiny/charts.test.ts',
    ],
    report: 'vitest',
    tree: 'bench-report',
    inputs: [...BENCH, 'test/bench'],
  },
]
