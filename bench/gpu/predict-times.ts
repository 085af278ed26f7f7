/**
 * `npm run model [-- --check]`: predicts each kernel's time from bytes, FLOPs and data-sheet limits and writes docs/performance/model.md.
 * With --check it compares the file with what it would write.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { page } from './time-model-page.js'

const file = path.join(import.meta.dirname, '../../docs/performance/model.md')
const text = page()
if (process.argv.includes('--check')) {
  if (readFileSync(file, 'utf8') !== text) {
    console.error('docs/performance/model.md is not what bench/gpu/predict-times.ts says: npm run model')
    process.exit(1)
  }
  console.log('model: docs/performance/model.md is up to date')
} else {
  writeFileSync(file, text)
  console.log(`model: ${path.relative(process.cwd(), file)}`)
}
