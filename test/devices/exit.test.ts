/** A process may end at any moment of a call's life: it ends soon, with its own status, and no signal. */

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { tryLoadNative } from '../../lib/devices/native/addon.js'
import { isCard } from './fixtures/layer.mjs'

const native = tryLoadNative()
if ('error' in native) console.warn(`skipped: ${native.error.message}`)

const script = fileURLToPath(new URL('fixtures/exit.mjs', import.meta.url))
/**
 * Milliseconds from the moment when it means to end. An idle machine shows some tenths of a second; a stage that does not wait leaves
 * hundreds of forwards behind, which would take it minutes.
 */
const PATIENCE = 30_000
const DEADLINE = 60_000

function runStage(stage: string) {
  return new Promise<{ status: number | null; signal: string | null; output: string; endingMs: number }>(
    resolve => {
      const child = spawn(process.execPath, [script, stage], { stdio: ['ignore', 'pipe', 'pipe'] })
      const timer = setTimeout(() => child.kill('SIGKILL'), DEADLINE)
      let output = ''
      let meantToEnd = performance.now()
      child.stdout.on('data', text => {
        if (String(text).includes('ending')) meantToEnd = performance.now()
        output += text
      })
      child.stderr.on('data', text => {
        output += text
      })
      child.on('close', (status, signal) => {
        clearTimeout(timer)
        resolve({ status, signal, output, endingMs: performance.now() - meantToEnd })
      })
    },
  )
}

describe.skipIf('error' in native)('exit', () => {
  it.each<[string, number, string]>([
    ['before any load', 7, ''],
    ['addon loaded', 7, ''],
    ['layer made, natural end', 0, ''],
    ['layer made', 7, ''],
    ['loading', 7, ''],
    ['loading, natural end', 0, 'loaded null'],
    ['loading, disposed', 0, 'loaded CANCELLED'],
    ['queued', 7, ''],
    ['running', 7, ''],
    ['running, natural end', 0, 'finished\nfinished\nfinished'],
    ['running, uncaught exception', 1, 'on purpose'],
    ['callback throws', 1, 'on purpose'],
    ['callback exits', 7, ''],
    ['exit handler runs a forward', 7, 'finished'],
    ['finished', 0, ''],
    ['worker running', 7, ''],
    ['worker and main running', 7, ''],
    // A GPU's calls run to their end.
    ...(isCard
      ? []
      : ([
          ['worker in forwardSync', 7, ''],
          ['workers in forwardSync, terminated', 0, 'finished'],
        ] satisfies [string, number, string][])),
  ])('%s', async (stage, status, text) => {
    const result = await runStage(stage)
    expect(result, result.output).toMatchObject({ status, signal: null })
    expect(result.output).toContain(text)
    expect(result.endingMs).toBeLessThan(stage.includes('natural') ? DEADLINE : PATIENCE)
  })
})
