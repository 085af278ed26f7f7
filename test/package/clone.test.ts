/** A fresh clone on a machine without any leftovers: what a newcomer's first command meets. */

import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import {
  barePath,
  cleanUp,
  cloneTree,
  expectCpu,
  mustRun,
  npmConfig,
  program,
  projectWith,
  run,
  shareModules,
} from './workbench.js'

afterAll(cleanUp)

/** The README's example, after nothing but `npm ci`. */
const FORWARD_OF_SHIPPED_MODEL = /^768 numbers; the first token took experts \d+(, \d+){3} of 32\n/

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

    const first = await run(process.execPath, ['examples/first.mjs'], { cwd: clone, PATH: barePath })
    expect(first.stdout).toMatch(FORWARD_OF_SHIPPED_MODEL)
    expect(first.stderr).toMatch(/'reference'.*npx sparse-experts build/s)

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
    const first = await run(process.execPath, ['examples/first.mjs'], { cwd: clone })
    expect(first.stdout).toMatch(FORWARD_OF_SHIPPED_MODEL)
    expect(first.stderr).toBe('')
    const demo = await mustRun('npm', ['run', 'demo'], { cwd: clone })
    expect(demo).toMatch(/cpu/)
    const quiet = await run(process.execPath, ['tools/build/setup.mjs'], { cwd: clone })
    expect(quiet).toEqual({ status: 0, stdout: '', stderr: '' })

    // `prepare` has something to compile again, and says so; stdout is the report alone.
    rmSync(path.join(clone, 'build/Release'), { recursive: true })
    const [report] = JSON.parse(await mustRun('npm', ['pack', '--json', '--dry-run'], { cwd: clone }))
    expect(report.name).toBe('sparse-experts')
    expect(builtFiles(clone)).toHaveLength(1)
  })
})

describe('a dependency from git', () => {
  it('brings the addon that npm has compiled for it', async () => {
    const clone = cloneTree()
    const git = (...args: string[]) =>
      mustRun('git', ['-c', 'user.name=test', '-c', 'user.email=test@localhost', ...args], { cwd: clone })
    await git('init', '--quiet')
    await git('add', '--all')
    await git('commit', '--quiet', '--message', 'all')
    // npm clones into its own cache.
    const project = await projectWith(`git+file://${clone}`, { env: { CCACHE_BASEDIR: npmConfig('cache') } })
    expectCpu(await program(project, ['esm.mjs', 'cpu']))
    const installed = path.join(project, 'node_modules/sparse-experts')
    expect(existsSync(path.join(installed, 'build'))).toBe(false)
    expect(readdirSync(path.join(installed, 'prebuilds'))).toEqual([`${process.platform}-${process.arch}`])
  }, 1_800_000)
})
