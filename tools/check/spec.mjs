/** Exits 1 where a file that spec/*.json makes is not what `npm run build:spec` would write. */

import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { generatedFiles } from '../build/spec.mjs'
import { root } from '../repository.mjs'

const stale = [...generatedFiles()].filter(([file, text]) => {
  const at = path.join(root, file)
  return !existsSync(at) || readFileSync(at, 'utf8') !== text
})
for (const [file] of stale) console.error(`${file}: stale, 'npm run build:spec' writes it from spec/`)
if (stale.length > 0) process.exit(1)
