import { configDefaults, defineConfig } from 'vitest/config'

/** All suites but test/package, which packs, installs and builds, and has a config of its own. */
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: [...configDefaults.exclude, 'test/package/**'],
    setupFiles: process.env.SE_TEST_SHARD ? ['test/helpers/shard.ts'] : [],
    globalSetup: ['tools/test/vitest-setup.mjs'],
    pool: 'forks',
    // The native pool and the tests' child processes use the cores as well.
    maxWorkers: 2,
    execArgv: ['--expose-gc'],
    // Not a limit of speed: what hangs ends some time, on the busiest of machines.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    typecheck: { enabled: true, include: ['test/types/**/*.test-d.ts'], tsconfig: './tsconfig.json' },
  },
})
