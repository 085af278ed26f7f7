/** The check of lib/'s layers finds what it is there for, in trees of a few files with one fault each. */

import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, it } from 'vitest'
import { root } from '../docs/markdown.js'

const { libraryBreaches } = await import(
  pathToFileURL(path.join(root, 'tools/check/library-layers.mjs')).href
)

/** The breaches in a tree of these files, one line each. */
function breachesOf(files: Record<string, string>): string[] {
  const breaches: [string, string][] = libraryBreaches(Object.keys(files), (file: string) => files[file])
  return breaches.map(([file, text]) => `${file}: ${text}`)
}

/** Files that keep the rules. */
const SOUND = {
  'lib/index.ts': "export { layer } from './api/layer.js'\n",
  'lib/api/layer.ts': "import { open } from '../devices/device.js'\nexport const layer = open\n",
  'lib/devices/device.ts':
    "import type { Shape } from '../block/shape.js'\nexport const open = (shape: Shape) => shape\n",
  'lib/block/shape.ts': 'export interface Shape { size: number }\n',
}

it('accepts imports that go down', () => {
  expect(breachesOf(SOUND)).toEqual([])
})

it('finds an import that goes up', () => {
  const text =
    "import { open } from '../devices/device.js'\nexport interface Shape { size: number; open: typeof open }\n"
  expect(breachesOf({ ...SOUND, 'lib/block/shape.ts': text })).toContain(
    'lib/block/shape.ts: imports lib/devices/device.ts: devices lies above block',
  )
})

it.each(['import type { open }', 'export type { open }', 'import { type open }', 'export *'])(
  'finds one that is no code: %s',
  statement => {
    const text = `${statement} from '../devices/device.js'\n`
    const expected = 'lib/block/other.ts: imports lib/devices/device.ts: devices lies above block'
    expect(breachesOf({ ...SOUND, 'lib/block/other.ts': text })).toEqual([expected])
  },
)

it('finds a lazy import that goes up', () => {
  const text = "export const lazy = () => import('../devices/device.js')\n"
  expect(breachesOf({ ...SOUND, 'lib/block/other.ts': text })).toHaveLength(1)
})

it('finds a cycle of types only, inside one folder', () => {
  const breaches = breachesOf({
    'lib/doctor/doctor.ts':
      "import type { Check } from './checks.js'\nexport interface Report { checks: Check[] }\n",
    'lib/doctor/checks.ts':
      "import type { Report } from './doctor.js'\nexport interface Check { of: Report }\n",
  })
  expect(breaches).toEqual([
    'lib/doctor/doctor.ts: import cycle: lib/doctor/doctor.ts → lib/doctor/checks.ts → lib/doctor/doctor.ts',
  ])
})

it('keeps the oracle from what is compared with it', () => {
  const breaches = breachesOf({
    'lib/devices/native/tensors.ts':
      "import { view } from '../../reference/matrix.js'\nexport const tensors = view\n",
    'lib/reference/matrix.ts': 'export const view = 1\n',
  })
  expect(breaches).toEqual([
    'lib/devices/native/tensors.ts: imports lib/reference/matrix.ts: devices/native must not know reference',
  ])
})

it('finds a file that has no room, and one that does not exist', () => {
  expect(breachesOf({ 'lib/helpers/text.ts': "import './gone.js'\n" })).toEqual([
    'lib/helpers/text.ts: has no room in LAYERS (tools/check/library-layers.mjs)',
    'lib/helpers/text.ts: imports ./gone.js, which is not a file of lib/',
  ])
})

it.each([
  [
    "import { lookup } from 'node:dns'\nexport { lookup }\n",
    'imports node:dns: the package opens no connection',
  ],
  [
    "export const lazy = () => import('node:dns/promises')\n",
    'imports node:dns/promises: the package opens no connection',
  ],
  ["import net from 'net'\nexport { net }\n", 'imports net: the package opens no connection'],
  [
    "import find from 'node-gyp-build'\nexport { find }\n",
    'imports node-gyp-build: the library depends on Node alone',
  ],
  [
    'export const { header } = process.report!.getReport()\n',
    'process.report: the package does no network or DNS work',
  ],
  [
    "export const page = () => fetch('https://example.org')\n",
    '> fetch(: the package does no network or DNS work',
  ],
])('finds network work: %s', (text, breach) => {
  expect(breachesOf({ ...SOUND, 'lib/block/other.ts': text })).toEqual([`lib/block/other.ts: ${breach}`])
  expect(breachesOf({ ...SOUND, 'lib/block/other.ts': `/* ${text} */\n` })).toEqual([])
})
