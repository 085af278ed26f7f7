import { defineConfig } from 'vitest/config'

/** `npm run test:package`: minutes long, one file at a time, because each test packs, installs or compiles. */
export default defineConfig({
  test: {
    root: new URL('../..', import.meta.url).pathname,
    include: ['test/package/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 1,
    fileParallelism: false,
    bail: 0,
    testTimeout: 600_000,
    hookTimeout: 1_200_000,
  },
})
