/** Suites that a system cannot run: for `skipIf`, with a line that says which and why. */

function skipped(where: boolean, suite: string, reason: string): boolean {
  if (where) console.warn(`skipped on ${process.platform}: ${suite}: ${reason}`)
  return where
}

/** True on Windows. */
export const skippedOnWindows = (suite: string, reason: string): boolean =>
  skipped(process.platform === 'win32', suite, reason)

/** True on every system but Linux. */
export const skippedBesideLinux = (suite: string, reason: string): boolean =>
  skipped(process.platform !== 'linux', suite, reason)

/** True where tools/test/platform.mjs emulates a platform: what a compiler makes there is for the machine below. */
export const skippedWhereEmulated = (suite: string, reason: string): boolean =>
  skipped(process.env.SE_TEST_PLATFORM !== undefined, suite, reason)
