import { defineConfig } from 'vitest/config'

/** `npm run test:llama`: whole models in node-llama-cpp, which it installs first. */
export default defineConfig({
  test: {
    root: new URL('../..', import.meta.url).pathname,
    include: ['test/llama/**/*.test.ts'],
    globalSetup: ['test/llama/install.ts'],
    pool: 'forks',
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
})
