import { existsSync } from 'node:fs'
import { configDefaults, defineConfig, type TestProjectInlineConfiguration } from 'vitest/config'

const exclude = [...configDefaults.exclude, 'test/llama/**', 'test/package/**']

/** On an emulated card, and under a sanitizer, what a file leaves behind is counted: each file has a process. */
const isolateAll = Boolean(
  process.env.SPARSE_EXPERTS_TEST_DEVICES ||
    process.env.SPARSE_EXPERTS_EMULATED ||
    process.env.SPARSE_EXPERTS_SANITIZED,
)
/** NVIDIA's driver, and that of Windows in its Linux. Where neither is, the suites of cards skip themselves, in any process. */
const mayHaveCard =
  isolateAll || process.platform !== 'linux' || ['/dev/nvidiactl', '/dev/dxg'].some(file => existsSync(file))

const device = (name: string) => `test/devices/${name}.test.ts`
/**
 * Files with a process each: they measure memory, end workers, hold layers that are forgotten, set variables of the environment, stop clocks
 * or mock modules. What they leave behind must not meet another file.
 */
const ALONE = [
  ...['arguments', 'lifetime', 'load', 'native-load', 'queue'].map(device),
  ...(mayHaveCard ? ['batches', 'failures', 'graphs', 'memory', 'tensors', 'workers'].map(device) : []),
  'test/cli/progress.test.ts',
  'test/tiny/energy.test.ts',
  'test/unit/many-layers.test.ts',
  'test/unit/native-tensors.test.ts',
]

/**
 * They start processes (the command line, how the addon is found, how processes end) or hand the library what no program sends: slow, and
 * beside the point for whoever wants to know whether an installed library works.
 */
const PROCESSES = [
  'test/cli/!(progress).test.ts',
  ...['cuda-library', 'exit', 'native-search', 'stolen-buffers'].map(device),
  'test/unit/decode-native.test.ts',
  'test/unit/hostile-*.test.ts',
]

/** What is not the library: this repository's tools, benchmarks, examples and pages. `npm run test:programs`. */
const PROGRAMS = ['bench', 'docs', 'examples', 'tools', 'tiny'].map(name => `test/${name}/**/*.test.ts`)

type TestOptions = NonNullable<TestProjectInlineConfiguration['test']>
const project = (name: string, options: TestOptions): TestProjectInlineConfiguration => ({
  test: {
    name,
    exclude,
    setupFiles: [
      'test/helpers/equal-arrays.ts',
      ...(process.env.SE_TEST_SHARD ? ['test/helpers/shard.ts'] : []),
      ...(process.env.SE_TEST_STEAL ? ['test/helpers/steal-buffers.ts'] : []),
    ],
    // The backends' debug contract runs in all suites but those that attack the addon as it is used (docs/architecture.md).
    env: { SPARSE_EXPERTS_CHECK: '1' },
    pool: 'forks',
    execArgv: ['--expose-gc'],
    // Not a limit of speed: what hangs ends some time, on the busiest of machines.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    ...options,
  },
})

/**
 * All suites but test/llama and test/package, which install what they need and have a config of their own; test/types is checked by `npm run typecheck`.
 * `npm test` leaves out the projects of programs and of processes, which say less about an installed library and take half of the time.
 * `npm run test:programs` runs them.
 */
export default defineConfig({
  test: {
    globalSetup: ['tools/test/vitest-setup.mjs'],
    // The native pool and the tests' child processes use the cores as well.
    maxWorkers: 2,
    // What is transformed once is kept in node_modules/.experimental-vitest-cache until it changes; not under Wine, where files have other names.
    experimental: { fsModuleCache: process.env.SE_TEST_PLATFORM !== 'win32-x64' },
    projects: [
      project('alone', { include: ALONE }),
      // Loading the library takes most of the time of most files: those that change nothing but what they make share two processes.
      project('together', {
        include: ['test/!(bench|docs|examples|tools|tiny)/**/*.test.ts'],
        exclude: [...exclude, ...ALONE, ...PROCESSES],
        isolate: isolateAll,
      }),
      project('processes', { include: PROCESSES, isolate: isolateAll }),
      project('programs', {
        include: PROGRAMS,
        exclude: [...exclude, ...ALONE],
        isolate: isolateAll,
      }),
    ],
  },
})
