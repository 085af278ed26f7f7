import { defineConfig } from 'vitest/config'

/** `npm run test:tools`: the repository's own tools. They say nothing about the library, so `npm test` is spared their many processes of git. */
export default defineConfig({
  test: {
    root: new URL('../..', import.meta.url).pathname,
    include: ['test/tools/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    // Not a limit of speed: what hangs ends some time, on the busiest of machines.
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
})
