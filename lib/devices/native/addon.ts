/** Loads the native addon, once, at first use. */

import { MoeError } from '../../block/errors.js'
import { PACKAGE_VERSION } from '../../spec/version.js'
import { NATIVE_ABI_VERSION, type NativeAddon } from './binding-contract.js'
import { findAddon } from './find-addon.js'
import { environment, loadError } from './load-failure.js'

/** The addon with the file that it came from, or why there is none. */
export type Loaded = { readonly addon: NativeAddon; readonly file: string } | { readonly error: MoeError }

let loaded: Loaded | undefined

/**
 * @internal The addon. A failure is remembered: later calls throw the same error.
 *
 * @throws {@link MoeError} ERR_MOE_NATIVE_LOAD, with what was tried and what to do; ERR_MOE_NATIVE_VERSION
 */
export function loadNative(): NativeAddon {
  const result = tryLoadNative()
  if ('error' in result) throw result.error
  return result.addon
}

/** @internal As {@link loadNative}, never throws. */
export function tryLoadNative(): Loaded {
  loaded ??= load()
  return loaded
}

function load(): Loaded {
  const search = findAddon()
  const { file } = search
  if (file === undefined) return { error: loadError(search) }
  let addon: NativeAddon
  try {
    // A `require` of the addon's own place, because a bundle has none that finds files; and asked for in a way that bundlers do not
    // rewrite, as webpack does with an imported `createRequire`.
    const { createRequire } = process.getBuiltinModule('node:module')
    addon = createRequire(file)(file) as NativeAddon
  } catch (cause) {
    return { error: loadError(search, cause) }
  }
  if (addon.version === PACKAGE_VERSION && addon.abiVersion === NATIVE_ABI_VERSION) return { addon, file }
  const fix = "Rebuild it with 'npx sparse-experts build', or install the package again."
  return {
    error: new MoeError(
      'ERR_MOE_NATIVE_VERSION',
      `The native addon ${file} is version ${addon.version} (interface ${addon.abiVersion}), the package is ${PACKAGE_VERSION} ` +
        `(interface ${NATIVE_ABI_VERSION}). ${fix}`,
      {
        details: {
          ...environment(file, search),
          addonVersion: addon.version,
          packageVersion: PACKAGE_VERSION,
          fix,
        },
      },
    ),
  }
}
