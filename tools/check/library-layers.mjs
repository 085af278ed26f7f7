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

/** The one file that may know how an addon is found. */
const ADDON_LOADER = 'lib/devices/native/addon.ts'

/** Of `lib/a/b.ts`: the index in LAYERS of the longest room that holds it, -1 where there is none. */
function floorOf(file) {
  const inLibrary = file.slice('lib/'.length)
  const holds = ({ room }) => inLibrary === room || inLibrary.startsWith(`${room}/`)
  const rooms = LAYERS.filter(holds).sort((a, b) => b.room.length - a.room.length)
  return LAYERS.indexOf(rooms[0])
}

/** Specifiers that a source imports or exports from, lazily or as types too. */
function specifiersOf(text) {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^[ \t]*\/\/.*$/gm, '')
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
    for (const specifier of specifiersOf(read(file))) {
      if (!specifier.startsWith('.')) {
        if (specifier === 'node-gyp-build' && file !== ADDON_LOADER)
          breaches.push([file, `only ${ADDON_LOADER} loads the addon`])
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
