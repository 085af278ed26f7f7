/** Where the addon is looked for, and what the warning says where it is not: for each reason another, with its own next step. */

import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { repository, runNode } from '../helpers/run-program.js'
import { removeDirectories, temporaryDirectory } from '../helpers/scratch.js'
import { addonPath } from './fixtures/layer.mjs'

afterAll(removeDirectories)

const here = `${process.platform}-${process.arch}`
const musl = process.platform === 'linux' ? 'glibc' : undefined

/**
 * Prints the device that 'auto' takes, what was logged, and the error of 'cpu'. No report of Node's may be asked for: it waits for every worker, and looks up the
 * name of every peer of an open socket, for seconds each.
 */
const PROGRAM = `
import { devices, doctor, MoeLayer, setLogger } from 'sparse-experts'
const warnings = []
setLogger((level, message) => level === 'warn' && warnings.push(message))
const config = { numExperts: 1, topK: 1, hiddenSize: 1, intermediateSize: 1, scoringFunc: 'softmax', normTopkProb: false }
const one = Float32Array.of(1)
const create = device => MoeLayer.create(config, { router: { weight: one }, experts: [{ gate: one, up: one, down: one }] }, { device })
let reports = 0
process.report.getReport = process.report.writeReport = () => { reports += 1; return {} }
const { device } = create('auto')
let cause
try { create('cpu') } catch (error) { cause = error.cause }
const { checks } = doctor()
console.log(JSON.stringify({ reports, device, warnings, code: cause?.code, message: cause?.message, details: cause?.details,
  checks: checks.filter(({ ok }) => !ok) }))
`

/** A project that has the package installed without an addon. */
let project: string
let installed: string
beforeAll(async () => {
  project = await temporaryDirectory()
  installed = path.join(project, 'node_modules/sparse-experts')
  for (const name of ['package.json', 'dist']) {
    cpSync(path.join(repository, name), path.join(installed, name), { recursive: true })
  }
  writeFileSync(path.join(project, 'program.mjs'), PROGRAM)
})

interface Outcome {
  reports: number
  device: string
  warnings: string[]
  code: string
  message: string
  details: Record<string, unknown>
  checks: { name: string; detail: string; fix: string }[]
}

async function outcome(args: string[] = [], env: NodeJS.ProcessEnv = {}, cwd = project): Promise<Outcome> {
  const clean = {
    SPARSE_EXPERTS_NATIVE_PATH: undefined,
    SPARSE_EXPERTS_PREBUILD: undefined,
    NODE_OPTIONS: undefined,
  }
  const { status, stdout, stderr } = await runNode([...args, path.join(cwd, 'program.mjs')], {
    ...clean,
    ...env,
  })
  expect(status, stderr).toBe(0)
  const told: Outcome = JSON.parse(stdout)
  expect(told.reports).toBe(0)
  return told
}

/** Puts a file into the package for one test. */
function withFile(name: string, content: string | Uint8Array = 'not a library'): void {
  const file = path.join(installed, name)
  mkdirSync(path.dirname(file), { recursive: true })
  writeFileSync(file, content)
}

/** What everybody is told: one warning with reason and next step, the same in the error and by the doctor. */
function expectTold(told: Outcome, reason: RegExp, fix: RegExp): void {
  expect(told.device).toBe('reference')
  expect(told.warnings).toHaveLength(1)
  expect(told.warnings[0]).toMatch(/^running on 'reference' \(slow\); cpu: /)
  expect(told.warnings[0]).toMatch(reason)
  expect(told.warnings[0]).toMatch(fix)
  expect(told.warnings[0]).not.toContain('\n')
  expect(told.code).toBe('ERR_MOE_NATIVE_LOAD')
  expect(told.message).toMatch(reason)
  expect(told.message).toMatch(fix)
  expect(told.details.fix).toMatch(fix)
  const row = told.checks.find(({ name }) => name === 'native addon')
  expect(row?.detail).toMatch(reason)
  expect(row?.fix).toMatch(fix)
}

describe('without an addon', () => {
  it('says that it was not built', async () => {
    expectTold(await outcome(), /it was not built, and no prebuild is here/, /'npx sparse-experts build'/)
  })

  it('names the platforms that have prebuilds', async () => {
    withFile('prebuilds/plan9-mips/sparse-experts.node')
    const told = await outcome()
    rmSync(path.join(installed, 'prebuilds'), { recursive: true })
    expectTold(told, new RegExp(`no prebuild for ${here}, only for plan9-mips`), /'npx sparse-experts build'/)
  })

  it.skipIf(!musl)('names the C library of a prebuild for another', async () => {
    withFile(`prebuilds/${here}/sparse-experts.musl.node`)
    const told = await outcome()
    rmSync(path.join(installed, 'prebuilds'), { recursive: true })
    expectTold(told, /is for musl, and this system has glibc/, /'npx sparse-experts build'/)
  })

  it('names a file that is damaged', async () => {
    withFile(`prebuilds/${here}/sparse-experts.node`)
    const told = await outcome()
    rmSync(path.join(installed, 'prebuilds'), { recursive: true })
    const file = path.join(installed, `prebuilds/${here}/sparse-experts.node`)
    // What the system says, in its own words.
    expectTold(told, /sparse-experts\.node/, /is damaged or for another platform/)
    expect(told.details).toMatchObject({ file })
  })

  it.skipIf(process.platform !== 'linux')('names a file for another processor', async () => {
    const header = Buffer.alloc(64)
    header.write('\x7fELF\x02\x01\x01', 'latin1')
    // A shared library for a SPARC.
    header.writeUInt16LE(3, 16)
    header.writeUInt16LE(43, 18)
    header.writeUInt32LE(1, 20)
    withFile(`prebuilds/${here}/sparse-experts.node`, header)
    const told = await outcome()
    rmSync(path.join(installed, 'prebuilds'), { recursive: true })
    expectTold(told, /sparse-experts\.node/, /is damaged or for another platform/)
  })

  it('names what a variable names', async () => {
    const SPARSE_EXPERTS_NATIVE_PATH = path.join(project, 'absent.node')
    const told = await outcome([], { SPARSE_EXPERTS_NATIVE_PATH })
    expectTold(
      told,
      /there is no file .*absent\.node/,
      /SPARSE_EXPERTS_NATIVE_PATH is set to .*: correct or unset it/,
    )
    const other = await outcome([], { SPARSE_EXPERTS_PREBUILD: path.join(project, 'nowhere') })
    expectTold(other, /there is no addon in .*nowhere/, /SPARSE_EXPERTS_PREBUILD is set to/)
  })

  it('says once what to do about an addon of another version', async () => {
    const file = path.join(project, 'other.cjs')
    writeFileSync(file, "module.exports = { version: '9.9.9', abiVersion: 1 }")
    const { device, code, warnings } = await outcome([], { SPARSE_EXPERTS_NATIVE_PATH: file })
    expect({ device, code }).toEqual({ device: 'reference', code: 'ERR_MOE_NATIVE_VERSION' })
    expect(warnings).toHaveLength(1)
    expect(warnings[0]!.match(/Rebuild it with/g)).toHaveLength(1)
  })

  it('says that addons are forbidden', async () => {
    withFile('build/Release/sparse_experts.node')
    const told = await outcome(['--no-addons'])
    rmSync(path.join(installed, 'build'), { recursive: true })
    expectTold(told, /loading addons is disabled/, /started with --no-addons/)
  })

  it("does not take another program's addon", async () => {
    withFile('build/Release/other.node')
    withFile(`prebuilds/${here}/other.node`)
    const told = await outcome()
    for (const name of ['build', 'prebuilds']) rmSync(path.join(installed, name), { recursive: true })
    expectTold(told, /it was not built/, /build/)
  })
})

describe("under Node's permission model", () => {
  const model = process.version.startsWith('v20.') ? '--experimental-permission' : '--permission'
  const read = (folder: string) => `--allow-fs-read=${path.join(folder, '*')}`
  const program = () => `--allow-fs-read=${path.join(project, 'program.mjs')}`
  const advice = () => `${model} ${read(installed)} --allow-addons`

  it('names the folders that it may not read, and the flags for them', async () => {
    const manifest = `--allow-fs-read=${path.join(installed, 'package.json')}`
    const told = await outcome([model, program(), manifest, read(path.join(installed, 'dist'))])
    expectTold(told, /this process may not read .*build.Release, .*prebuilds/, /permission model forbids it/)
    expect(told.message).toContain(advice())
    const silent = await outcome([model, program(), read(path.join(installed, 'dist'))])
    expectTold(silent, /may not read/, /permission model forbids it/)
  })

  it('names the flag for addons', async () => {
    withFile('build/Release/sparse_experts.node')
    const told = await outcome([model, program(), read(installed)])
    rmSync(path.join(installed, 'build'), { recursive: true })
    expectTold(told, /loading addons is disabled/, /permission model forbids addons/)
    expect(told.message).toContain(advice())
  })

  it('runs on the CPU with the flags that it names, and without any other file', async context => {
    try {
      cpSync(addonPath(), path.join(installed, 'build/Release/sparse_experts.node'))
    } catch {
      return context.skip()
    }
    const told = await outcome([model, program(), read(installed), '--allow-addons'])
    rmSync(path.join(installed, 'build'), { recursive: true })
    expect(told).toMatchObject({ device: 'cpu', checks: [] })
  })
})

describe('in a bundle', () => {
  it("says where its addon goes, and reads no other program's package.json", async () => {
    // As a bundler leaves it: the code three folders below a program that is not this package.
    const program = await temporaryDirectory()
    cpSync(path.join(installed, 'dist'), path.join(program, 'out'), { recursive: true })
    writeFileSync(
      path.join(program, 'package.json'),
      JSON.stringify({ name: 'shop', version: '9.9.9', type: 'module' }),
    )
    writeFileSync(path.join(program, 'program.mjs'), PROGRAM.replace("'sparse-experts'", "'./out/index.js'"))
    const told = await outcome([], {}, program)
    const place = path.join(program, 'out/devices/native/prebuilds')
    expectTold(
      told,
      /bundled or moved without its addon/,
      /Copy the folder node_modules\/sparse-experts\/prebuilds to/,
    )
    expect(told.message).toContain(place)
    expect(told.message).toContain('external')
    expect(told.details.searched).toContain(program)
  })
})
