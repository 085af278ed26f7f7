import { expect, test } from 'vitest'

const { productLoops } = await import(new URL('../../tools/check/machine-code.mjs', import.meta.url).href)

const MMA = 0x23c
const ADD = 0x210
const BRANCH = 0x947

type Instruction = { opcode: number; cycles: number; back?: number }

/** Instructions as sm_80 has them; `back`: how many instructions before itself a branch goes to. */
function encode(instructions: readonly Instruction[]): Buffer {
  const code = Buffer.alloc(instructions.length * 16)
  for (const [i, { opcode, cycles, back }] of instructions.entries()) {
    let low = BigInt(opcode)
    let high = BigInt(cycles) << 41n
    if (back !== undefined) {
      const words = BigInt.asUintN(48, BigInt(-4 * (back + 1)))
      low |= BigInt.asUintN(30, words) << 34n
      high |= words >> 30n
    }
    code.writeBigUInt64LE(low, i * 16)
    code.writeBigUInt64LE(high, i * 16 + 8)
  }
  return code
}

/** An ELF file with one kernel. */
function cubin(kernel: string, instructions: readonly Instruction[]): Buffer {
  const code = encode(instructions)
  const names = Buffer.from(`\0.text.${kernel}\0`)
  const header = Buffer.alloc(64)
  header.writeBigUInt64LE(64n, 40)
  header.writeUInt16LE(64, 58)
  header.writeUInt16LE(2, 60)
  header.writeUInt16LE(1, 62)
  const sections = Buffer.alloc(128)
  const describe = (index: number, name: number, offset: number, size: number) => {
    sections.writeUInt32LE(name, index * 64)
    sections.writeBigUInt64LE(BigInt(offset), index * 64 + 24)
    sections.writeBigUInt64LE(BigInt(size), index * 64 + 32)
  }
  describe(0, 1, 192, code.length)
  describe(1, 0, 192 + code.length, names.length)
  return Buffer.concat([header, sections, code, names])
}

const loop = (mma: number, cycles: number, branch: number): Instruction[] => [
  ...Array.from({ length: mma }, () => ({ opcode: MMA, cycles })),
  { opcode: ADD, cycles: 1 },
  { opcode: BRANCH, cycles: branch, back: mma + 1 },
]

test('the branch back counts as the rest of a round does', () => {
  const loops = productLoops(cubin('one', [{ opcode: ADD, cycles: 5 }, ...loop(4, 8, 11)]), 80)
  expect([...loops]).toEqual([['one', [{ mma: 4, instructions: 6, cycles: 4 * 8 + 1 + 11 }]]])
})

test('most products first, of equal loops the slowest', () => {
  const code = [...loop(2, 8, 5), ...loop(4, 6, 5), ...loop(4, 6, 11), ...loop(4, 6, 7)]
  const found = productLoops(cubin('many', code), 80).get('many')
  expect(found.map((one: { cycles: number }) => one.cycles)).toEqual([36, 32, 30, 22])
})

test('a loop with another branch in it, and one without products, are none', () => {
  const inner = [
    { opcode: ADD, cycles: 2 },
    { opcode: BRANCH, cycles: 5, back: 1 },
  ]
  const outer = [...inner, { opcode: MMA, cycles: 8 }, { opcode: BRANCH, cycles: 5, back: 3 }]
  expect(productLoops(cubin('none', outer), 80).size).toBe(0)
})
