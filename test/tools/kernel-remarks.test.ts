/** What the compiler says of warp groups that it could not compile as asked is found, and nothing else is. */

import { expect, it } from 'vitest'

// A tool has no declarations: the compiler must not look for its types.
const { remarksIn } = await import(new URL('../../tools/check/kernel-objects.mjs', import.meta.url).href)

/** Lines of ptxas 13.0. */
const registers =
  "ptxas info    : (C7508) Potential Performance Loss: 'setmaxnreg' ignored; unable to determine register count at entry."
const wait =
  "ptxas info    : (C7517) warpgroup.wait is injected in around line 89 by compiler to allow use of registers defined by GMMA in function 'k'"
const report = [
  'ptxas info    : 0 bytes gmem',
  "ptxas info    : Compiling entry function 'k' for 'sm_90a'",
  'ptxas info    : Function properties for k',
  '    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads',
  'ptxas info    : Used 168 registers, used 3 barriers, 3584 bytes smem',
]

it('finds remarks about warp groups between the figures', () => {
  expect(remarksIn([registers, ...report, wait].join('\n'))).toEqual([registers, wait])
})

it('finds none in figures alone', () => {
  expect(remarksIn(report.join('\n'))).toEqual([])
})
