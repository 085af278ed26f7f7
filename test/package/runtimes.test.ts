/** The package outside of plain Node: in Bun, in Deno, and in Jest, whose modules are its own. */

import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  barePath,
  cleanUp,
  expectCpu,
  installedProject,
  installTools,
  mustRun,
  nodeExecutable,
  pack,
  program,
  repository,
  stagedTree,
} from './workbench.js'

afterAll(cleanUp)

/** A project with this machine's addon as its prebuild. */
let project: string
beforeAll(async () => {
  project = await installedProject(await pack(stagedTree()), barePath)
  const folder = path.join(
    project,
    `node_modules/sparse-experts/prebuilds/${process.platform}-${process.arch}`,
  )
  mkdirSync(folder, { recursive: true })
  cpSync(path.join(repository, 'build/Release/sparse_experts.node'), path.join(folder, 'sparse-experts.node'))
})

describe('Bun', () => {
  let bun: string
  beforeAll(async () => {
    await installTools(project, ['@oven/bun-linux-x64@1.4.5'])
    bun = path.join(project, 'node_modules/@oven/bun-linux-x64/bin/bun')
  })

  it.each(['esm.mjs', 'commonjs.cjs'])('runs %s on the CPU', async name => {
    expectCpu(await program(project, [name, 'cpu'], bun))
  })
})

describe('Deno', () => {
  const PERMISSIONS = ['--allow-read', '--allow-env', '--allow-sys', '--allow-ffi']
  let deno: string
  beforeAll(async () => {
    await installTools(project, ['@deno/linux-x64-glibc@2.9.6'])
    deno = path.join(project, 'node_modules/@deno/linux-x64-glibc/deno')
  })

  it('runs on the CPU with its permissions', async () => {
    expectCpu(await program(project, ['run', ...PERMISSIONS, 'esm.mjs', 'cpu'], deno))
  })

  it('names them where it has none, and runs on the reference', async () => {
    const { device, warnings } = await program(project, ['run', '--no-prompt', 'esm.mjs', 'auto'], deno)
    expect(device).toBe('reference')
    expect(warnings).toHaveLength(1)
    expect(warnings[0]).toContain(PERMISSIONS.join(' '))
  })
})

describe('Jest', () => {
  const TEST = `
test('a layer on the CPU', async () => {
  const result = await compare(MoeLayer, 'cpu')
  expect(result.sameIds).toBe(true)
  expect(result.relativeError).toBeLessThanOrEqual(5e-6)
})
`
  const jest = async (args: string[], node = process.execPath) =>
    mustRun(node, [...args, '--rootDir', 'jest'], { cwd: project, PATH: barePath })
  const SCRIPT = 'node_modules/jest/bin/jest.js'
  beforeAll(async () => {
    await installTools(project, ['jest@30.5.2', 'esbuild@0.28.2'])
    const folder = path.join(project, 'jest')
    mkdirSync(folder)
    const imports = "import { MoeLayer } from 'sparse-experts'\nimport { compare } from '../tiny.mjs'\n"
    writeFileSync(path.join(folder, 'esm.test.mjs'), imports + TEST)
    const requires =
      "const { MoeLayer } = require('sparse-experts')\nconst { compare } = require('../tiny.mjs')\n"
    writeFileSync(path.join(folder, 'commonjs.test.cjs'), requires + TEST)
    writeFileSync(path.join(folder, 'bundled.test.cjs'), requires.replace('../tiny.mjs', './tiny.cjs') + TEST)
  })

  it('runs ES modules with --experimental-vm-modules', async () => {
    await jest(['--experimental-vm-modules', SCRIPT, '--testMatch', '**/esm.test.mjs'])
  })

  it('requires the package from CommonJS on Node 24', async () => {
    const args = ['--experimental-vm-modules', SCRIPT, '--testMatch', '**/commonjs.test.cjs']
    await jest(args, await nodeExecutable('24.9.0'))
  })

  it('requires a bundle of it from CommonJS on any Node', async () => {
    const common = ['--bundle', '--platform=node', '--format=cjs', '--log-level=error']
    for (const [entry, out] of [
      ['node_modules/sparse-experts/dist/index.js', 'sparse-experts.cjs'],
      ['tiny.mjs', 'tiny.cjs'],
    ])
      await mustRun('npx', ['--no-install', 'esbuild', entry!, ...common, `--outfile=jest/${out}`], {
        cwd: project,
      })
    cpSync(
      path.join(project, 'node_modules/sparse-experts/prebuilds'),
      path.join(project, 'jest/prebuilds'),
      {
        recursive: true,
      },
    )
    const mapping = JSON.stringify({ '^sparse-experts$': '<rootDir>/sparse-experts.cjs' })
    await jest([SCRIPT, '--testMatch', '**/bundled.test.cjs', '--moduleNameMapper', mapping])
  })
})
