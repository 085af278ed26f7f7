/** The turn of a loop in disassembled code. */

import { expect, it } from 'vitest'

const { readFunctions, shortestTurn } = await import(
  new URL('../../tools/check/inner-loop.mjs', import.meta.url).href
)

const ARM = `
0000000000000000 <int f<4>(int)>:
   0:	mov	w1, #0x0
   4:	sdot	v0.4s, v1.16b, v2.16b
   8:	cbz	w2, 14 <int f<4>(int)+0x14>
   c:	add	w3, w3, #0x1
  10:	sdot	v3.4s, v1.16b, v2.16b
  14:	subs	w1, w1, #0x1
  18:	b.ne	4 <int f<4>(int)+0x4>
  1c:	ret

0000000000000020 <g>:
  20:	sdot	v0.4s, v1.16b, v2.16b
  24:	b	2c <g+0xc>
  28:	b	20 <g>
  2c:	ret
`

it('takes the shortest way around', () => {
  const functions = readFunctions(ARM)
  expect([...functions.keys()]).toEqual(['int f<4>(int)', 'g'])
  const turn = shortestTurn(functions.get('int f<4>(int)'), 'sdot')
  expect(turn.map((text: string) => text.split(/\s/)[0])).toEqual(['sdot', 'cbz', 'subs', 'b.ne'])
})

it('finds no loop where none comes back, or where the instruction is missing', () => {
  const functions = readFunctions(ARM)
  expect(shortestTurn(functions.get('g'), 'sdot')).toBeNull()
  expect(shortestTurn(functions.get('g'), 'smmla')).toBeNull()
})

it('reads prefixes and jumps of x64', () => {
  const functions = readFunctions(`
0000000000000000 <f>:
   0:	{vex} vpdpbusd %ymm0,%ymm1,%ymm2
   6:	dec    %eax
   8:	jne    0 <f>
   a:	ret
`)
  expect(shortestTurn(functions.get('f'), 'vpdpbusd')).toHaveLength(3)
})
