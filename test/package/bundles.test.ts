/**
 * The package inside of other programs' files: bundled by each of the usual tools, moved to a folder without node_modules, and run there
 * without its addon and with it beside the bundle.
 */

import { chmodSync, cpSync, existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  barePath,
  cleanUp,
  emptyDirectory,
  expectCpu,
  installedProject,
  installTools,
  mustRun,
  pack,
  repository,
  stagedTree,
} from './workbench.js'

afterAll(cleanUp)

const TOOLS = ['esbuild@0.28.2', 'postject@1.0.0-alpha.6', 'rollup@4.68.8', 'vite@8.3.8', 'webpack@5.113.0']

/** Where each tool leaves its bundle. */
const BUNDLES = [
  'esbuild-cjs/main.cjs',
  'esbuild-esm/main.mjs',
  'rollup-cjs/main.cjs',
  'rollup-esm/main.mjs',
  'vite-ssr/main.mjs',
  'webpack-cjs/main.cjs',
  'webpack-esm/main.mjs',
]

/** The folder of the bundles, in another program's tree, and the prebuilds that were in the package. */
let deployed: string
let prebuilds: string
beforeAll(async () => {
  const project = await installedProject(await pack(stagedTree()), barePath)
  await installTools(project, TOOLS)
  await mustRun(process.execPath, ['bundle.mjs', 'out'], { cwd: project })
  const program = emptyDirectory('program')
  writeFileSync(path.join(program, 'package.json'), JSON.stringify({ name: 'shop', version: '9.9.9' }))
  deployed = path.join(program, 'deployed')
  cpSync(path.join(project, 'out'), deployed, { recursive: true })
  await makeExecutable(project)
  prebuilds = path.join(program, 'addon')
  const platform = path.join(prebuilds, `${process.platform}-${process.arch}`)
  mkdirSync(platform, { recursive: true })
  cpSync(
    path.join(repository, 'build/Release/sparse_experts.node'),
    path.join(platform, 'sparse-experts.glibc.node'),
  )
  // A bundle of webpack's knows where the source was: on this machine it must not be there any more.
  renameSync(path.join(project, 'node_modules/sparse-experts'), path.join(project, 'gone'))
})

/** A single executable application around the minified bundle. */
async function makeExecutable(project: string): Promise<void> {
  const config = { main: 'out/sea/main.cjs', output: 'sea.blob', disableExperimentalSEAWarning: true }
  writeFileSync(path.join(project, 'sea.json'), JSON.stringify(config))
  await mustRun(process.execPath, ['--experimental-sea-config', 'sea.json'], { cwd: project })
  const executable = path.join(deployed, 'sea/program')
  cpSync(process.execPath, executable)
  chmodSync(executable, 0o755)
  const fuse = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2'
  const args = [
    'node_modules/postject/dist/cli.js',
    executable,
    'NODE_SEA_BLOB',
    'sea.blob',
    '--sentinel-fuse',
    fuse,
  ]
  await mustRun(process.execPath, args, { cwd: project })
}

/** Runs a bundle in a folder that is not its own. */
async function runBundle(name: string, device: string) {
  const file = path.join(deployed, name)
  const isScript = /js$/.test(name)
  const [command, args] = isScript ? [process.execPath, [file, device]] : [file, [device]]
  return JSON.parse(await mustRun(command, args, { cwd: emptyDirectory('elsewhere'), PATH: barePath }))
}

describe.each([...BUNDLES, 'sea/program'])('%s', name => {
  it('imports and runs on the reference without the addon, and says where that goes', async () => {
    const result = await runBundle(name, 'auto')
    expect(result.device).toBe('reference')
    expect(result.sameIds).toBe(true)
    expect(result.warnings).toHaveLength(1)
    const place = path.join(path.dirname(path.join(deployed, name)), 'prebuilds')
    expect(result.warnings[0]).toContain(`Copy the folder node_modules/sparse-experts/prebuilds to ${place}`)
  })

  it('runs on the CPU with the addon there', async () => {
    const place = path.join(path.dirname(path.join(deployed, name)), 'prebuilds')
    expect(existsSync(place)).toBe(false)
    cpSync(prebuilds, place, { recursive: true })
    expectCpu(await runBundle(name, 'auto'))
  })
})
