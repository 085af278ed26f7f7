import { afterAll, expect, it } from 'vitest'
import { runProgram } from '../helpers/run-program.js'
import { removeDirectories, tinyCheckpoint } from '../helpers/scratch.js'

afterAll(removeDirectories)

it('shares batches among two workers with a layer each, and ends by itself', async () => {
  const { status, stdout, stderr } = await runProgram('examples/worker-pool/main.ts', [
    await tinyCheckpoint(),
    'reference',
  ])
  expect(stderr).toBe('')
  expect(stdout).toMatch(
    /2 workers with \d+ threads each on reference\n8 batches, 256 tokens, \d+ tokens\/s\n/,
  )
  expect(status).toBe(0)
})

it('passes on why a layer could not be loaded', async () => {
  const { status, stderr } = await runProgram('examples/worker-pool/main.ts', [
    'no-such-directory',
    'reference',
  ])
  expect(status).not.toBe(0)
  expect(stderr).toContain('ERR_MOE_')
})
