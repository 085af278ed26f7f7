/**
 * Writes what TypeScript, C++ and the docs must agree on from one source, spec/*.json: enums and their names, the formats of stored
 * matrices, the grids of ggml's types, the small tensors of a block; and the version of package.json. The results are committed; `npm run check:spec` (part of lint) fails where one is stale.
 */

import { spawnSync } from 'node:child_process'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { root } from '../repository.mjs'
import {
  enumNamesHeader,
  enumsHeader,
  gridsHeader,
  storedTypesHeader,
  valueTablesHeader,
  vectorsHeader,
} from './spec/cpp.mjs'
import { DOCUMENTS, documentWith } from './spec/docs.mjs'
import { enumsModule, formatsModule, gridsModule, vectorsModule, versionModule } from './spec/typescript.mjs'

const read = file => readFileSync(path.join(root, file), 'utf8')

/** What clang-format prints for a header, so that the generator need not know the style. */
function clangFormatted(file, text) {
  const { clangFormatPath } = createRequire(import.meta.url)('clang-format-node')
  if (process.platform !== 'win32') chmodSync(clangFormatPath, 0o755)
  const run = spawnSync(clangFormatPath, [`--assume-filename=${path.join(root, file)}`], {
    input: text,
    encoding: 'utf8',
  })
  if (run.status !== 0) throw new Error(`clang-format failed: ${run.stderr ?? run.error}`)
  return run.stdout
}

/** What biome prints for a module. */
function biomeFormatted(file, text) {
  const run = spawnSync('npx', ['--no-install', 'biome', 'format', `--stdin-file-path=${file}`], {
    cwd: root,
    input: text,
    encoding: 'utf8',
  })
  if (run.status !== 0) throw new Error(`biome failed: ${run.stderr ?? run.error}`)
  return run.stdout
}

/** Path → text of every generated file. */
export function generatedFiles() {
  const spec = {
    enums: JSON.parse(read('spec/enums.json')),
    formats: JSON.parse(read('spec/formats.json')),
    grids: JSON.parse(read('spec/ggml-grids.json')),
    vectors: JSON.parse(read('spec/vectors.json')),
    version: JSON.parse(read('package.json')).version,
  }
  const headers = {
    'csrc/abi/enums.h': enumsHeader,
    'csrc/abi/enum_names.h': enumNamesHeader,
    'csrc/core/value_tables.h': valueTablesHeader,
    'csrc/core/vectors.h': vectorsHeader,
    'csrc/formats/ggml/grids.h': gridsHeader,
    'csrc/formats/stored_types.h': storedTypesHeader,
  }
  const modules = {
    'lib/spec/enums.ts': enumsModule,
    'lib/spec/formats.ts': formatsModule,
    'lib/spec/ggml-grids.ts': gridsModule,
    'lib/spec/vectors.ts': vectorsModule,
    'lib/spec/version.ts': versionModule,
  }
  const files = new Map()
  for (const [file, make] of Object.entries(headers)) files.set(file, clangFormatted(file, make(spec)))
  for (const [file, make] of Object.entries(modules)) files.set(file, biomeFormatted(file, make(spec)))
  for (const file of DOCUMENTS) files.set(file, documentWith(spec, read(file), file))
  return files
}

if (process.argv[1] === import.meta.filename) {
  for (const [file, text] of generatedFiles()) {
    writeFileSync(path.join(root, file), text)
    console.log(file)
  }
}
