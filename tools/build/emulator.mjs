/**
 * `npm run build:emulator [-- --flavour plain|address|race]`: builds the CUDA backend on the emulator, incrementally, and prints the
 * library's path as the last line. Open it with SPARSE_EXPERTS_CUDA_LIBRARY=<path>: 'cuda' is then an emulated GPU.
 */

import { parseArgs } from 'node:util'
import { buildEmulator, checkEmulatorOptions, EMULATOR_OPTIONS } from './emulator-flavours.mjs'

const { values } = parseArgs({ options: { flavour: EMULATOR_OPTIONS.flavour } })
checkEmulatorOptions('build:emulator', values)
console.log(buildEmulator(values.flavour, ['sparse_experts_cuda']).library)
