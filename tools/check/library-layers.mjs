import path from 'node:path'

/**
 * The rooms of lib/, upper ones first: a file imports from its own room and from rooms below it, types included. A room is a folder
 * without the folders named apart, or one file. `never` lists rooms below that are closed all the same.
 */
const LAYERS = [
  { room: 'cli' },
  { room: 'index.ts' },
  { room: 'doctor' },
  { room: 'api' },
  { room: 'trace', never: ['devices/reference', 'reference'] },
  { room: 'devices' },
  // Results of native are compared with the oracle: code that both run would hide its defects from every comparison.
  { room: 'devices/native', never: ['devices/reference', 'reference'] },
  { room: 'devices/reference' },
  { room: 'devices/contract.ts' },
  { room: 'devices/device-array.ts' },
  { room: 'checkpoint/load', never: ['reference'] },
  { room: 'checkpoint/plan', never: ['reference'] },
  { room: 'checkpoint', never: ['reference'] },
  { room: 'families', never: ['reference'] },
  { room: 'families/parts', never: ['reference'] },
  { room: 'reference' },
  { room: 'block' },
  { room: 'spec' },
]

/** Modules that open connections or look up names. A layer computes: where a network is slow or away, it must not notice. */
const NETWORK = /^(node:)?(net|dns|http|https|http2|tls|dgram|inspector|undici)(\/|$)/
/**
 * What waits for a network all the same: a report of Node's looks up the name of every peer of an open socket, one by one, and waits for all
 * workers.
 */
const NETWORK_CALLS =
  /\b(getReport|writeReport)\s*\(|\bprocess\??\.report\b|(?:[=(,>]|await|return)\s*fetch\s*\(|\bnew (WebSocket|EventSource)\b/

/** Of `lib/a/b.ts`: the index in LAYERS of the longest room that holds it, -1 where there is none. */
function floorOf(file) {
  const inLibrary = file.slice('lib/'.length)
  const holds = ({ room }) => inLibrary === room || inLibrary.startsWith(`${room}/`)
  const rooms = LAYERS.filter(holds).sort((a, b) => b.room.length - a.room.length)
  return LAYERS.indexOf(rooms[0])
}

const withoutComments = text => text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^[ \t]*\/\/.*$/gm, '')

/** Specifiers that a source imports or exports from, lazily or as types too. */
function specifiersOf(code) {
  const statements = code.matchAll(
    /^[ \t]*(?:import|export)\s+(?:[^'"`;=]*?\s*from\s*)?['"]([^'"]+)['"]|import\(\s*['"]([^'"]+)['"]\s*\)/gm,
  )
  return [...statements].map(([, specifier, lazy]) => specifier ?? lazy)
}

/** Cycles among files, each reported once. */
function cycles(imports) {
  const found = []
  const state = new Map()
  const visit = (file, trail) => {
    if (state.get(file) === 'done') return
    if (state.get(file) === 'open') {
      found.push([file, `import cycle: ${[...trail.slice(trail.indexOf(file)), file].join(' → ')}`])
      return
    }
    state.set(file, 'open')
    for (const target of imports.get(file) ?? []) visit(target, [...trail, file])
    state.set(file, 'done')
  }
  for (const file of imports.keys()) visit(file, [])
  return found
}

/**
 * Checks the imports below lib/.
 *
 * @param files paths relative to the root of the repository; those outside lib/ are ignored
 * @param read path → text
 * @returns pairs of file and breach
 */
export function libraryBreaches(files, read) {
  const libraryFiles = new Set(files.filter(file => /^lib\/.*\.ts$/.test(file)))
  const breaches = []
  const imports = new Map()
  for (const file of libraryFiles) {
    const floor = floorOf(file)
    if (floor < 0) breaches.push([file, 'has no room in LAYERS (tools/check/library-layers.mjs)'])
    const targets = []
    imports.set(file, targets)
    const code = withoutComments(read(file))
    const [call] = NETWORK_CALLS.exec(code) ?? []
    if (call) breaches.push([file, `${call}: the package does no network or DNS work`])
    for (const specifier of specifiersOf(code)) {
      if (!specifier.startsWith('.')) {
        if (NETWORK.test(specifier))
          breaches.push([file, `imports ${specifier}: the package opens no connection`])
        else if (!specifier.startsWith('node:'))
          breaches.push([file, `imports ${specifier}: the library depends on Node alone`])
        continue
      }
      const target = path.posix.join(path.posix.dirname(file), specifier).replace(/\.js$/, '.ts')
      if (!libraryFiles.has(target)) {
        breaches.push([file, `imports ${specifier}, which is not a file of lib/`])
        continue
      }
      targets.push(target)
      const targetFloor = floorOf(target)
      if (floor < 0 || targetFloor < 0 || targetFloor === floor) continue
      const { room, never = [] } = LAYERS[floor]
      const targetRoom = LAYERS[targetFloor].room
      if (targetFloor < floor) breaches.push([file, `imports ${target}: ${targetRoom} lies above ${room}`])
      else if (never.includes(targetRoom))
        breaches.push([file, `imports ${target}: ${room} must not know ${targetRoom}`])
    }
  }
  return [...breaches, ...cycles(imports)]
}
