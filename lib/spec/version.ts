/** Generated from package.json by tools/build/spec.mjs: do not edit. */

/** Version of this package. */
export const PACKAGE_VERSION = '0.1.0'
