/** A fresh clone on a machine without any leftovers: what a newcomer's first command meets. */

import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { barePath, cleanUp, cloneTree, mustRun, run, shareModules } from './workbench.js'

afterAll(cleanUp)

const builtFiles = (clone: string) => {
  const release = path.join(clone, 'build/Release')
  return existsSync(release) ? readdirSync(release).filter(file => file.endsWith('.node')) : []
}

describe('a clone without compiler and CMake', () => {
  it('installs, says what is missing, and runs the demo on the reference', async () => {
    const clone = cloneTree()
    const install = await run('npm', ['ci'], { cwd: clone, PATH: barePath })
    expect(install.status, install.stderr).toBe(0)
    expect(install.stdout + install.stderr).toMatch(/lacks CMake .*, a C\+\+17 compiler/)
    expect(install.stdout + install.stderr).toMatch(/'reference' device/)
    expect(builtFiles(clone)).toEqual([])
    expect(existsSync(path.join(clone, 'dist/index.js'))).toBe(true)

    const demo = await run('npm', ['run', 'demo'], { cwd: clone, PATH: barePath })
    expect(demo.status, demo.stdout + demo.stderr).toBe(0)
    expect(demo.stdout + demo.stderr).toMatch(/reference/)
    expect(demo.stdout + demo.stderr).toMatch(/cmake/i)
  })
})

describe('a clone whose native code does not compile', () => {
  it('still installs, loudly, and fails npm test', async () => {
    const clone = cloneTree()
    writeFileSync(path.join(clone, 'csrc/core/status.h'), '#error broken on purpose\n')
    // What npm ci would put there and then run: the other clones show that it does.
    shareModules(clone)
    const install = await run('npm', ['run', 'prepare'], { cwd: clone })
    expect(install.status, install.stderr).toBe(0)
    expect(install.stdout + install.stderr).toMatch(/broken on purpose/)
    expect(install.stdout + install.stderr).toMatch(/the native addon does not compile/)
    expect(builtFiles(clone)).toEqual([])

    const test = await run('npm', ['test'], { cwd: clone })
    expect(test.status).not.toBe(0)
    expect(test.stdout + test.stderr).toMatch(/broken on purpose/)
  })
})

describe('a clone with a compiler', () => {
  it('is ready after npm ci, and set-up costs nothing when nothing changed', async () => {
    const clone = cloneTree()
    await mustRun('npm', ['ci'], { cwd: clone })
    expect(builtFiles(clone)).toHaveLength(1)
    const demo = await mustRun('npm', ['run', 'demo'], { cwd: clone })
    expect(demo).toMatch(/cpu/)
    const quiet = await run(process.execPath, ['tools/build/setup.mjs'], { cwd: clone })
    expect(quiet).toEqual({ status: 0, stdout: '', stderr: '' })
  })
})
