/** What a Windows library imports and exports, of files laid out by hand after Microsoft's "PE Format". */

import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'

const script = path.join(import.meta.dirname, '../../tools/check/portable-executable.mjs')
const { readPortableExecutable } = await import(pathToFileURL(script).href)

/** Where the one section lies in memory and in the file. */
const ADDRESS = 0x1000
const OFFSET = 0x200

/** A PE32+ file with one section, which holds `body`; the directories' addresses are from its beginning. */
function portableExecutable(body: Buffer, exports: number, imports: number): Buffer {
  const file = Buffer.alloc(OFFSET + body.length)
  file.write('MZ', 0, 'latin1')
  file.writeUInt32LE(0x80, 0x3c) // e_lfanew
  file.write('PE\0\0', 0x80, 'latin1')
  const coff = 0x84
  file.writeUInt16LE(0x8664, coff) // Machine: x64
  file.writeUInt16LE(1, coff + 2) // NumberOfSections
  file.writeUInt16LE(240, coff + 16) // SizeOfOptionalHeader
  const optional = coff + 20
  file.writeUInt16LE(0x20b, optional) // PE32+
  file.writeUInt32LE(16, optional + 108) // NumberOfRvaAndSizes
  for (const [i, at] of [exports, imports].entries()) {
    if (at >= 0) file.writeUInt32LE(ADDRESS + at, optional + 112 + 8 * i)
  }
  const section = optional + 240
  file.writeUInt32LE(body.length, section + 8) // VirtualSize
  file.writeUInt32LE(ADDRESS, section + 12) // VirtualAddress
  file.writeUInt32LE(body.length, section + 16) // SizeOfRawData
  file.writeUInt32LE(OFFSET, section + 20) // PointerToRawData
  body.copy(file, OFFSET)
  return file
}

describe('a portable executable', () => {
  it('names the libraries that it needs and the functions that it offers', () => {
    const body = Buffer.alloc(0x200)
    // Two import descriptors of 20 bytes and an empty one; Name is their fourth word.
    body.writeUInt32LE(ADDRESS + 0x100, 12)
    body.writeUInt32LE(ADDRESS + 0x110, 20 + 12)
    body.write('KERNEL32.dll\0', 0x100, 'latin1')
    body.write('msvcrt.dll\0', 0x110, 'latin1')
    // The export directory: NumberOfNames at 24, AddressOfNames at 32.
    body.writeUInt32LE(2, 0x80 + 24)
    body.writeUInt32LE(ADDRESS + 0xc0, 0x80 + 32)
    body.writeUInt32LE(ADDRESS + 0x140, 0xc0)
    body.writeUInt32LE(ADDRESS + 0x160, 0xc4)
    body.write('first\0', 0x140, 'latin1')
    body.write('second\0', 0x160, 'latin1')
    expect(readPortableExecutable(portableExecutable(body, 0x80, 0))).toEqual({
      imports: ['KERNEL32.dll', 'msvcrt.dll'],
      exports: ['first', 'second'],
    })
  })

  it('may need and offer nothing', () => {
    expect(readPortableExecutable(portableExecutable(Buffer.alloc(64), -1, -1))).toEqual({
      imports: [],
      exports: [],
    })
  })

  it('is no other file, nor one for 32 bits', () => {
    expect(() => readPortableExecutable(Buffer.alloc(256))).toThrow('not a portable executable')
    const narrow = portableExecutable(Buffer.alloc(64), -1, -1)
    narrow.writeUInt16LE(0x10b, 0x84 + 20)
    expect(() => readPortableExecutable(narrow)).toThrow('not for 64 bits')
  })
})
