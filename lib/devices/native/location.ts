/** Where this code lies, which a bundler may have moved: away from the package, or to a place that has no URL. */

import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

/** Name of the package, and how its package.json is told from another program's. */
const PACKAGE = 'sparse-experts'

/** The file that this code was loaded from. A bundle in CommonJS has no `import.meta.url`, and one made for the web no file. */
function moduleFile(): string | undefined {
  try {
    return fileURLToPath(import.meta.url)
  } catch {
    return typeof __filename === 'string' ? __filename : undefined
  }
}

const attempt = <Value>(ask: () => Value): Value | undefined => {
  try {
    return ask()
  } catch {
    return undefined
  }
}

/** True as well where it cannot be told, because this process may not look. */
export const isThere = (file: string): boolean => attempt(() => existsSync(file)) ?? true

/** This process may not look: by the system, by Node's permission model, or by Deno's. */
export function isDenied(error: unknown): boolean {
  const { code, name } = error as NodeJS.ErrnoException
  return /^(ERR_ACCESS_DENIED|EACCES|EPERM)$/.test(code ?? '') || /^(NotCapable|PermissionDenied)$/.test(name)
}

/** Whether `root` has package.json of this package; one that may not be read counts, because the package's own folder is the likely place. */
function isPackage(root: string): boolean {
  try {
    return JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')).name === PACKAGE
  } catch (error) {
    return isDenied(error)
  }
}

/** Where this code lies. */
export interface Location {
  /** The directory of package.json; where the code was bundled, the one that it would be in. */
  readonly root: string
  /** The code is part of a bundle: `root` is not the package. */
  readonly isBundled: boolean
  /** Where a bundle's addon may lie: beside the bundle, the program's main file and the executable. Empty outside of a bundle. */
  readonly beside: readonly string[]
}

let located: Location | undefined

/** Never throws; looked up at the first call. */
export function location(): Location {
  located ??= locate()
  return located
}

function locate(): Location {
  const file = attempt(moduleFile)
  const executable = path.dirname(process.execPath)
  // From lib/ under a TypeScript runner, or from dist/: both lie at the same depth below the package.
  const root = file === undefined ? executable : path.resolve(path.dirname(file), '../../..')
  if (file !== undefined && isPackage(root)) return { root, isBundled: false, beside: [] }
  const main = attempt(() => process.argv[1])
  const folders = [file, main]
    .filter(name => name !== undefined)
    .map(name => path.dirname(path.resolve(name)))
  // webpack writes the place of the source into the bundle, which may be on another machine.
  return { root, isBundled: true, beside: [...new Set([...folders.filter(isThere), executable])] }
}
