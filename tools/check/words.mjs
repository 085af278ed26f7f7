/** Finds what no file of the repository may say: paths of one machine, hosts, credentials, leftovers. Exits 1 on any. */

import { readFileSync } from 'node:fs'
import path from 'node:path'
import { repositoryFiles, root } from '../repository.mjs'

const breaches = []
const files = repositoryFiles()
const read = file => readFileSync(path.join(root, file), 'utf8')

const FORBIDDEN = [
  [/(?<![\w.:/~$}-])\/(?:home|root|work|Users)\/\w/, 'a path of one machine'],
  [/\bhttps?:\/\/[\w.-]*(?:registry|mirror|proxy)\b[\w.-]*\.\w/, 'the host of a registry'],
  [/_authToken|_password\s*=/, 'a credential'],
  [/\.\.\/shared\//, 'a path outside of the repository'],
  [/<<<<<<< |>>>>>>> /, 'a merge conflict'],
]
const TEXT =
  /\.(m?[jt]s|cts|json|md|ya?ml|cc|h|cuh?|cmake|txt|gyp|py|sh)$|^\.ci\/run$|^\.(npmrc|gitattributes|gitignore|clang-tidy)$/
for (const file of files.filter(name => TEXT.test(name) && !name.startsWith('test/golden/cases/'))) {
  if (file === 'tools/check/words.mjs') continue
  read(file)
    .split('\n')
    .forEach((line, index) => {
      for (const [pattern, what] of FORBIDDEN) {
        if (pattern.test(line))
          breaches.push(`${file}:${index + 1}: names ${what}: ${line.trim().slice(0, 100)}`)
      }
      if (/^test\/.*\.ts$/.test(file) && /\b(?:describe|it|test)\.only\b/.test(line)) {
        breaches.push(`${file}:${index + 1}: leaves .only in a test`)
      }
    })
}
if (files.includes('package-lock.json') && /"resolved": "http/.test(read('package-lock.json'))) {
  breaches.push(
    'package-lock.json: pins the host of a registry ("resolved"); use omit-lockfile-registry-resolved',
  )
}

if (breaches.length > 0) {
  console.error(`${breaches.join('\n')}\n\n${breaches.length} forbidden words`)
  process.exit(1)
}
