/** A platform without a prebuild: the reference at first, and a build from source on request. */

import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  barePath,
  cleanUp,
  expectCpu,
  installedProject,
  mustRun,
  NODE_VERSIONS,
  nodeExecutable,
  pack,
  program,
  run,
  stagedTree,
} from './workbench.js'

afterAll(cleanUp)

describe('without a prebuild', () => {
  let project: string
  beforeAll(async () => {
    project = await installedProject(await pack(stagedTree()), barePath)
  })

  it('installs and imports, and falls to the reference with a warning', async () => {
    const result = await program(project, ['esm.mjs', 'auto'])
    expect(result.device).toBe('reference')
    expect(result.warnings).toHaveLength(1)
    expect(result.warnings[0]).toMatch(/^warn: .*reference/)
  })

  it('refuses the CPU by name with a reason', async () => {
    const result = await program(project, ['esm.mjs', 'cpu'])
    expect(['ERR_MOE_DEVICE_UNAVAILABLE', 'ERR_MOE_NATIVE_LOAD']).toContain(result.code)
    expect(result.message).toMatch(/native|addon|build/i)
    expect(result.warnings).toEqual([])
  })

  it('says what is missing when it is asked to build without a toolchain', async () => {
    const { status, stdout, stderr } = await run('npx', ['--no-install', 'sparse-experts', 'build'], {
      cwd: project,
      PATH: barePath,
    })
    expect(status).not.toBe(0)
    expect(stdout + stderr).toMatch(/cmake/i)
  })

  it('builds from source on request and then runs on the CPU', async () => {
    await mustRun('npx', ['--no-install', 'sparse-experts', 'build'], { cwd: project })
    expectCpu(await program(project, ['esm.mjs', 'cpu']))
    const [newest] = NODE_VERSIONS.slice(-1)
    expectCpu(await program(project, ['commonjs.cjs', 'cpu'], await nodeExecutable(newest!)))
  })

  it('names the cause when the addon is there but does not load', async () => {
    const release = path.join(project, 'node_modules/sparse-experts/build/Release')
    const addon = readdirSync(release).find(file => file.endsWith('.node'))!
    writeFileSync(path.join(release, addon), 'not a library')
    const result = await program(project, ['esm.mjs', 'cpu'])
    expect(['ERR_MOE_DEVICE_UNAVAILABLE', 'ERR_MOE_NATIVE_LOAD']).toContain(result.code)
    rmSync(path.join(project, 'node_modules/sparse-experts/build'), { recursive: true })
  })
})
