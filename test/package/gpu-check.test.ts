/**
 * tools/release/gpu-check on a bare machine, as far as one without a GPU goes: no Node, no npm, no network. With nvcc it must come to "no CUDA device"
 * and nothing else; without nvcc the emulator takes the GPU's place.
 */

import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, readdirSync, readFileSync, statSync, symlinkSync } from 'node:fs'
import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { cleanUp, cloneTree, emptyDirectory, repository, run } from './workbench.js'

afterAll(cleanUp)

function which(command: string): string | undefined {
  const directories = [...(process.env.PATH ?? '').split(path.delimiter), '/usr/local/cuda/bin']
  const found = directories.find(
    directory => !directory.includes('node_modules') && existsSync(path.join(directory, command)),
  )
  return found && path.join(found, command)
}

const hasNvcc = which('nvcc') !== undefined
const hasGpu = spawnSync('nvidia-smi', ['-L']).status === 0

/** Version managers put a script of theirs in Python's place, which needs more of a machine than there will be. */
function interpreter(): string | undefined {
  const asked = spawnSync('python3', ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' })
  return asked.status === 0 ? asked.stdout.trim() : undefined
}

/** What a GPU machine has: compilers and Python. No node, npm, git or xz. */
function machinePath(): string {
  const directory = emptyDirectory('machine')
  const tools = [
    'python3',
    'cmake',
    'make',
    'ninja',
    'cc',
    'c++',
    'gcc',
    'g++',
    'as',
    'ld',
    'ar',
    'ranlib',
    'nm',
  ]
  const shell = [
    'sh',
    'bash',
    'uname',
    'cat',
    'rm',
    'mkdir',
    'mv',
    'cp',
    'sed',
    'grep',
    'expr',
    'dirname',
    'basename',
  ]
  for (const command of [...tools, ...shell, 'nvcc']) {
    const file = command === 'python3' ? interpreter() : which(command)
    if (file) symlinkSync(file, path.join(directory, command))
  }
  return directory
}

describe.skipIf(hasGpu)('tools/release/gpu-check', () => {
  it(`comes to ${hasNvcc ? '"no CUDA device"' : 'its end on the emulator'} on a bare machine`, async () => {
    const packing = await run('python3', ['tools/release/gpu-check', '--prepare'], { cwd: repository })
    expect(packing.status, packing.stdout + packing.stderr).toBe(0)
    const carried = path.join(repository, '.gpu-check')
    const bytes = readdirSync(carried).reduce((sum, file) => sum + statSync(path.join(carried, file)).size, 0)
    expect(bytes).toBeLessThan(64 * 2 ** 20)

    const clone = cloneTree()
    cpSync(carried, path.join(clone, '.gpu-check'), { recursive: true })
    const out = emptyDirectory('out')
    const phases = hasNvcc ? [] : ['--emulated', '--phase', 'build,conformance,bench']
    const check = await run(
      'python3',
      ['tools/release/gpu-check', '--out', out, '--seconds', '900', ...phases],
      {
        cwd: clone,
        PATH: machinePath(),
      },
    )
    const said = check.stdout + check.stderr
    if (check.status !== (hasNvcc ? 3 : 0)) console.error(said)
    expect(check.status).toBe(hasNvcc ? 3 : 0)
    if (hasNvcc) expect(said).toMatch(/no CUDA device .*everything before this went well/)
    const report = JSON.parse(readFileSync(path.join(out, 'gpu-check.json'), 'utf8'))
    expect(report.phases.build.ok).toBe(true)
    expect(report.node).toBe(process.version)
    expect(report.revision).toMatch(/^[0-9a-f]{40}/)
    if (hasNvcc) expect(report.stopped).toBe('no CUDA device')
    else expect(report.phases.bench.ok).toBe(true)
  })
})
