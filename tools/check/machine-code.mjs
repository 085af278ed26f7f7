/**
 * Loops of the machine code in a cubin (an ELF file with a section `.text.<kernel>` for each kernel), and how long a warp takes to issue
 * one round of them.
 *
 * An instruction is 128 bits since sm_70. The compiler writes into each one how many cycles the warp waits before it issues its next
 * instruction; what it cannot know beforehand (memory, barriers) is waited for by counters and not in this figure. The sum over a loop
 * without other branches, the branch back and what it waits for included, is therefore the least time that one warp needs for a round.
 */

const BYTES = 16
const OPCODE = { branch: 0x947, mma: 0x23c }

/** The code sections of an ELF file: name of the kernel → bytes. */
function codeOf(elf) {
  const sectionsAt = Number(elf.readBigUInt64LE(40))
  const [size, count, names] = [elf.readUInt16LE(58), elf.readUInt16LE(60), elf.readUInt16LE(62)]
  const section = index => {
    const at = sectionsAt + index * size
    const begin = Number(elf.readBigUInt64LE(at + 24))
    return {
      name: elf.readUInt32LE(at),
      bytes: elf.subarray(begin, begin + Number(elf.readBigUInt64LE(at + 32))),
    }
  }
  const strings = section(names).bytes
  const code = new Map()
  for (let index = 0; index < count; index++) {
    const { name, bytes } = section(index)
    const text = strings.toString('latin1', name, strings.indexOf(0, name))
    if (text.startsWith('.text.')) code.set(text.slice('.text.'.length), bytes)
  }
  return code
}

/**
 * One instruction: opcode with the form of its operands, cycles to the next one, target of a branch in bytes from the kernel's first. A branch
 * counts words of 4 bytes from the next instruction; from sm_90 on the lowest 8 bits of that number stand apart.
 */
function decode(code, at, architecture) {
  const low = code.readBigUInt64LE(at)
  const high = code.readBigUInt64LE(at + 8)
  const opcode = Number(low & 0xfffn)
  const cycles = Number((high >> 41n) & 0xfn)
  if (opcode !== OPCODE.branch) return { opcode, cycles }
  const upper = BigInt.asIntN(48, (low >> 34n) | ((high & 0x3ffffn) << 30n))
  const words = architecture < 90 ? upper : upper * 256n + ((low >> 16n) & 0xffn)
  return { opcode, cycles, target: at + BYTES + 4 * Number(words) }
}

/**
 * Loops that multiply on tensor cores and have no branch but the one back, those with the most products first, of these the slowest:
 * name of the kernel → [{ mma, instructions, cycles }]. Only instructions of mma.sync on 16-bit types are known.
 */
export function productLoops(cubin, architecture) {
  const loops = new Map()
  for (const [kernel, code] of codeOf(cubin)) {
    const instructions = Array.from({ length: Math.floor(code.length / BYTES) }, (_, i) =>
      decode(code, i * BYTES, architecture),
    )
    const found = []
    for (const [index, { target }] of instructions.entries()) {
      if (target === undefined || target > index * BYTES || target < 0) continue
      const body = instructions.slice(target / BYTES, index + 1)
      if (body.filter(({ opcode }) => opcode === OPCODE.branch).length > 1) continue
      const mma = body.filter(({ opcode }) => opcode === OPCODE.mma).length
      if (mma === 0) continue
      found.push({
        mma,
        instructions: body.length,
        cycles: body.reduce((sum, { cycles }) => sum + cycles, 0),
      })
    }
    if (found.length > 0)
      loops.set(
        kernel,
        found.sort((a, b) => b.mma - a.mma || b.cycles - a.cycles),
      )
  }
  return loops
}
