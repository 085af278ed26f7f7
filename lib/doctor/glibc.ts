/** The oldest glibc that prebuilds run on: Ubuntu 22.04, Debian 12, RHEL 9. tools/check/prebuilds.mjs holds every prebuild to it. */
export const GLIBC_FLOOR = '2.34'
