/** What is published, installed on a machine without a compiler: the part of `npm run test:package` that each landing runs. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { moduleOf, typeScriptBlocks } from '../docs/markdown.js'
import {
  barePath,
  cleanUp,
  expectCpu,
  installedProject,
  mustRun,
  packBoth,
  program,
  repository,
  run,
  type Tarball,
} from './workbench.js'

const manifest = JSON.parse(readFileSync(path.join(repository, 'package.json'), 'utf8'))

let withPrebuild: Tarball
let sourceOnly: Tarball
beforeAll(async () => {
  ;({ withPrebuild, sourceOnly } = await packBoth())
})
afterAll(cleanUp)

describe('the tarball', () => {
  it('holds what a user needs and nothing else', () => {
    for (const file of [
      'package.json',
      'LICENSE',
      'README.md',
      'CHANGELOG.md',
      'NOTICE.md',
      'CMakeLists.txt',
      'CMakePresets.json',
      'tools/build/native.mjs',
      'tools/build/native-tools.mjs',
      'tools/build/tree.mjs',
      'csrc/abi/backend.h',
      'dist/index.js',
      'dist/index.d.ts',
      'dist/cli/main.js',
    ]) {
      expect(withPrebuild.contents).toContain(file)
    }
    const allowed =
      /^(dist|csrc|cmake|prebuilds)\/|^tools\/build\/(native|native-tools|tree)\.mjs$|^[A-Z]+(\.md)?$|^CMakeLists\.txt$|^CMakePresets\.json$|^package\.json$/
    expect(withPrebuild.contents.filter(file => !allowed.test(file))).toEqual([])
    // A binding.gyp in a package makes npm run node-gyp on the user's machine.
    expect(withPrebuild.contents).not.toContain('binding.gyp')
    expect(withPrebuild.contents.filter(file => /\.test\.|(^|\/)test\//.test(file))).toEqual([])
  })

  it('has types for every module and no module without a source', () => {
    const modules = withPrebuild.contents.filter(file => /^dist\/.*\.js$/.test(file))
    expect(modules.length).toBeGreaterThan(5)
    for (const file of modules) {
      expect(withPrebuild.contents).toContain(file.replace(/\.js$/, '.d.ts'))
      expect(existsSync(path.join(repository, file.replace(/^dist/, 'lib').replace(/\.js$/, '.ts')))).toBe(
        true,
      )
    }
  })

  it('holds one prebuild of this platform only where one was made', () => {
    const addons = (tarball: Tarball) => tarball.contents.filter(file => file.endsWith('.node'))
    expect(addons(withPrebuild)).toEqual([
      `prebuilds/${process.platform}-${process.arch}/sparse-experts.glibc.node`,
    ])
    expect(addons(sourceOnly)).toEqual([])
  })

  it('stays small', () => {
    expect(withPrebuild.packedBytes).toBeLessThan(8 * 2 ** 20)
    expect(withPrebuild.unpackedBytes).toBeLessThan(24 * 2 ** 20)
  })

  it('runs nothing at install', () => {
    expect(Object.keys(manifest.scripts)).not.toEqual(expect.arrayContaining(['install']))
    for (const hook of ['preinstall', 'install', 'postinstall', 'prebuild']) {
      expect(manifest.scripts).not.toHaveProperty(hook)
    }
    expect(manifest.gypfile).toBe(false)
  })
})

describe('with a prebuild and no compiler', () => {
  let project: string
  let documented: string[]
  beforeAll(async () => {
    project = await installedProject(withPrebuild, barePath)
    documented = typeScriptBlocks().map((block, index) => {
      const name = `documented_${index}.mts`
      writeFileSync(path.join(project, name), moduleOf(block))
      return name
    })
    expect(documented.length).toBeGreaterThan(10)
  })

  it('runs a layer on the CPU after import', async () => {
    expectCpu(await program(project, ['esm.mjs', 'cpu']))
  })

  it('chooses the CPU by itself', async () => {
    expectCpu(await program(project, ['esm.mjs', 'auto']))
  })

  it('runs a layer on the CPU after require', async () => {
    expectCpu(await program(project, ['commonjs.cjs', 'cpu']))
  })

  it('answers npx sparse-experts doctor --json', async () => {
    const stdout = await mustRun('npx', ['--no-install', 'sparse-experts', 'doctor', '--json'], {
      cwd: project,
      PATH: barePath,
    })
    const report = JSON.parse(stdout)
    expect(report.package.version).toBe(manifest.version)
    expect(report.native).toMatchObject({ found: true, path: expect.stringContaining('prebuilds') })
    const cpu = report.devices.find((device: { id: string }) => device.id === 'cpu')
    expect(cpu).toMatchObject({ available: true })
  })

  it('leaves nothing to install but its dependencies', () => {
    const installed = JSON.parse(readFileSync(path.join(project, 'node_modules/.package-lock.json'), 'utf8'))
    const direct = Object.keys(manifest.dependencies)
    const names = Object.keys(installed.packages).map(name => name.replace('node_modules/', ''))
    expect(names).toEqual(expect.arrayContaining([manifest.name, ...direct]))
    for (const entry of Object.values<{ hasInstallScript?: boolean }>(installed.packages)) {
      expect(entry.hasInstallScript ?? false).toBe(false)
    }
  })

  // Under node16 TypeScript still refuses to require an ES module.
  it.each([
    ['node16', 'node16', ['consumer.mts']],
    ['nodenext', 'nodenext', ['consumer.mts', 'consumer.cts']],
    ['esnext', 'bundler', ['consumer.mts']],
  ])(
    'has types that compile strictly under module %s, resolution %s: %j, and the documented examples',
    async (module, moduleResolution, files) => {
      const compilerOptions = {
        strict: true,
        noEmit: true,
        target: 'es2022',
        lib: ['es2023', 'esnext.disposable'],
        // The declarations themselves are checked too.
        skipLibCheck: false,
        types: ['node'],
        typeRoots: [path.join(repository, 'node_modules/@types')],
        module,
        moduleResolution,
      }
      writeFileSync(
        path.join(project, 'tsconfig.json'),
        JSON.stringify({ compilerOptions, files: [...files, ...documented] }),
      )
      const tsc = path.join(repository, 'node_modules/typescript/bin/tsc')
      const result = await run(process.execPath, [tsc, '-p', project], { cwd: project })
      expect(result.stdout + result.stderr).toBe('')
      expect(result.status).toBe(0)
    },
  )
})
