/** Builds the program that measures the machine for the benchmarks (bench/harness), and prints its path last. */

import path from 'node:path'
import { buildSide } from './side-tree.mjs'

const tree = buildSide('native', { CMAKE_BUILD_TYPE: 'Release', SE_SANITIZE: '' }, ['machine_limits'])
console.log(path.join(tree, 'machine_limits'))
