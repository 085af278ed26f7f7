/** Builds the self-test of the CPU backend, which also measures its kernels (bench/layer), and prints its path last. */

import path from 'node:path'
import { buildPreset } from './tree.mjs'

console.log(path.join(buildPreset('native', ['native_tests']), 'native_tests'))
