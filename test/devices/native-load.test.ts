/** Finding and loading the addon: what a person is told when it fails. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest'
import type { MoeError } from '../../lib/block/errors.js'
import { NATIVE_ABI_VERSION } from '../../lib/devices/native/binding-contract.js'

/** A fresh copy of the loader, which remembers what it found. */
async function freshLoader() {
  vi.resetModules()
  return import('../../lib/devices/native/addon.js')
}

async function failure(): Promise<MoeError> {
  const { loadNative, tryLoadNative } = await freshLoader()
  const result = tryLoadNative()
  if (!('error' in result)) throw new Error('the addon loaded')
  expect(loadNative).toThrow(result.error)
  expect(tryLoadNative()).toBe(result)
  return result.error
}

describe('loader of the addon', () => {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sparse-experts-'))
  afterEach(() => vi.unstubAllEnvs())
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  it('says what was tried, where, why not, and what to do', async () => {
    const absent = path.join(directory, 'absent.node')
    vi.stubEnv('SPARSE_EXPERTS_NATIVE_PATH', absent)
    const error = await failure()
    expect(error.code).toBe('ERR_MOE_NATIVE_LOAD')
    for (const text of [
      absent,
      process.platform,
      process.arch,
      process.version,
      'SPARSE_EXPERTS_NATIVE_PATH',
      'Possible solutions',
    ]) {
      expect(error.message).toContain(text)
    }
    expect(error.cause).toBeInstanceOf(Error)
    expect(error.details).toMatchObject({ file: absent, platform: process.platform, node: process.version })
  })

  it('names the variable whose directory has no addon', async () => {
    vi.stubEnv('SPARSE_EXPERTS_NATIVE_PATH', undefined)
    vi.stubEnv('SPARSE_EXPERTS_PREBUILD', path.join(directory, 'nowhere'))
    expect((await failure()).message).toContain('SPARSE_EXPERTS_PREBUILD is set to')
  })

  it('never throws where the runtime tells nothing, as Deno without permissions', async () => {
    const refuse = (): never => {
      throw Object.assign(new Error('Requires env access to "X", run again with the --allow-env flag'), {
        name: 'NotCapable',
      })
    }
    const own = (['env', 'report'] as const).map(
      key => [key, Object.getOwnPropertyDescriptor(process, key)!] as const,
    )
    try {
      for (const [key] of own) Object.defineProperty(process, key, { get: refuse, configurable: true })
      vi.resetModules()
      const { devices } = await import('../../lib/devices/device.js')
      const listed = devices()
      expect(listed.at(-1)).toMatchObject({ id: 'reference', available: true })
      expect(listed.find(({ id }) => id === 'cpu')).toBeDefined()
    } finally {
      for (const [key, descriptor] of own) Object.defineProperty(process, key, descriptor)
    }
  })

  it('refuses a file that is no addon', async () => {
    const file = path.join(directory, 'text.node')
    writeFileSync(file, 'not an ELF file')
    vi.stubEnv('SPARSE_EXPERTS_NATIVE_PATH', file)
    expect((await failure()).code).toBe('ERR_MOE_NATIVE_LOAD')
  })

  it.each([
    ['another version', '9.9.9', NATIVE_ABI_VERSION],
    ['another interface', undefined, NATIVE_ABI_VERSION + 1],
  ])('refuses an addon of %s', async (_name, version, abiVersion) => {
    const own = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version
    const file = path.join(directory, `addon-${abiVersion}.cjs`)
    writeFileSync(file, `module.exports = ${JSON.stringify({ version: version ?? own, abiVersion })}`)
    vi.stubEnv('SPARSE_EXPERTS_NATIVE_PATH', file)
    const error = await failure()
    expect(error.code).toBe('ERR_MOE_NATIVE_VERSION')
    expect(error.message).toContain('npx sparse-experts build')
    expect(error.details).toMatchObject({ file, packageVersion: own })
  })

  it('loads the addon of this checkout once', async () => {
    const { tryLoadNative } = await freshLoader()
    const first = tryLoadNative()
    if ('error' in first) return expect(first.error.message).toContain('npx sparse-experts build')
    expect(first.addon.abiVersion).toBe(NATIVE_ABI_VERSION)
    expect(first.addon.build).not.toBe('')
    expect(tryLoadNative()).toBe(first)
  })
})
