/**
 * `npm run build:cuda [-- --architectures 90-real] [--directory build/Release]`: builds the CUDA backend for every architecture of
 * cmake/cuda_archs.cmake into build/Release, beside the addon, and prints the library's path as the last line. Needs nvcc, no GPU.
 */

import { existsSync, statSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { root } from '../repository.mjs'
import { buildPreset } from './tree.mjs'

const { values } = parseArgs({
  options: { architectures: { type: 'string' }, directory: { type: 'string', default: 'build/Release' } },
})
const { architectures } = values
const directory = path.resolve(root, values.directory)
if (
  architectures !== undefined &&
  !/^\d+a?(-real|-virtual)?([;,]\d+a?(-real|-virtual)?)*$/.test(architectures)
) {
  console.error(`build:cuda: --architectures takes a list like 80-real,90, received '${architectures}'`)
  process.exit(2)
}

const began = Date.now()
const list = architectures?.replaceAll(',', ';')
buildPreset('cuda', ['sparse_experts_cuda'], {
  // A configured tree keeps its architectures: each choice has its own.
  tree: list ? `cuda-${list.replaceAll(';', '-')}` : 'cuda',
  definitions: {
    SE_ADDON_DIRECTORY: directory,
    // What tools/check/kernels.mjs reads.
    CMAKE_CUDA_COMPILER_LAUNCHER: `${process.execPath};${path.join(root, 'tools/build/ptxas-log.mjs')}`,
    ...(list && { CMAKE_CUDA_ARCHITECTURES: list }),
  },
})
const library = path.join(directory, 'libsparse_experts_cuda.so')
if (!existsSync(library)) {
  console.error(`build:cuda: the build left no ${library}`)
  process.exit(1)
}
const seconds = Math.round((Date.now() - began) / 1000)
console.log(`build:cuda: ${(statSync(library).size / 2 ** 20).toFixed(1)} MiB after ${seconds} s`)
console.log(library)
