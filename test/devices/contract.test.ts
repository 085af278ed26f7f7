/** SPARSE_EXPERTS_CHECK=1: the backends also refuse what breaks no memory, only the result. lib/ refuses it before, in other words. */

import { execFileSync } from 'node:child_process'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'
import { tryLoadNative } from '../../lib/devices/native/addon.js'

const native = tryLoadNative()
if ('error' in native) console.warn(`skipped: ${native.error.message}`)

const fixtures = pathToFileURL(path.join(import.meta.dirname, 'fixtures/layer.mjs')).href

/** What the backend says to each of these, in a process of its own. */
const PROGRAM = `
import { loadAddon, makeConfig, makeDescription, makeLayer, makeRequest } from '${fixtures}'
const addon = loadAddon()
const codeOf = body => {
  try {
    body()
    return 'ok'
  } catch (error) {
    return error.moeCode
  }
}
const { layer, config } = makeLayer(addon)
const created = overrides => codeOf(() => addon.createLayer(makeDescription(makeConfig(overrides))))
console.log(
  JSON.stringify([
    codeOf(() => layer.forwardSync(makeRequest(config, 3, { topP: 0 }))),
    codeOf(() => layer.forwardSync(makeRequest(config, 3, { topP: 2 }))),
    created({ numExpertGroups: 4, topkGroup: 1 }),
    created({ normalization: 'p', normValue: 0 }),
    created({ scoringFunc: 'sigmoid', capacity: {
      kind: 'batch', expertCapacity: 2, tokenFraction: 0, normalizeBeforeDropping: false, batchPrioritized: false,
    } }),
  ]),
)
`

function answers(check: string | undefined): unknown {
  const env = { ...process.env, SPARSE_EXPERTS_CHECK: check }
  if (check === undefined) delete env.SPARSE_EXPERTS_CHECK
  const args = ['--input-type=module', '--eval', PROGRAM]
  return JSON.parse(execFileSync(process.execPath, args, { env, encoding: 'utf8' }))
}

describe.skipIf('error' in native)('debug contract', () => {
  it('is checked when asked for', () => {
    expect(answers('1')).toEqual(Array(5).fill('INVALID_ARGUMENT'))
  })

  it.skipIf(process.env.SPARSE_EXPERTS_SANITIZED)('costs nothing otherwise, and nothing crashes', () => {
    expect(answers(undefined)).toEqual(Array(5).fill('ok'))
    expect(answers('0')).toEqual(Array(5).fill('ok'))
  })
})
