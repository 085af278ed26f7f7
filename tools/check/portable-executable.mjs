/** Reads what a Windows library needs and offers: the import and export tables of a 64-bit portable executable. */

const DIRECTORIES = { exports: 0, imports: 1 }
const IMPORT_BYTES = 20

/**
 * @param bytes the file
 * @returns names of the libraries that it imports from, and of the functions that it exports
 */
export function readPortableExecutable(bytes) {
  const header = bytes.readUInt32LE(0x3c)
  if (bytes.toString('latin1', header, header + 4) !== 'PE\0\0') throw new Error('not a portable executable')
  const numSections = bytes.readUInt16LE(header + 6)
  const optional = header + 24
  if (bytes.readUInt16LE(optional) !== 0x20b) throw new Error('not for 64 bits')
  const sections = optional + bytes.readUInt16LE(header + 20)

  /** Where in the file the loaded address lies. */
  const place = address => {
    for (let at = sections; at < sections + 40 * numSections; at += 40) {
      const begin = bytes.readUInt32LE(at + 12)
      const size = bytes.readUInt32LE(at + 16)
      if (address >= begin && address < begin + size) return address - begin + bytes.readUInt32LE(at + 20)
    }
    throw new Error(`no section has the address ${address}`)
  }
  const text = address => {
    const begin = place(address)
    return bytes.toString('latin1', begin, bytes.indexOf(0, begin))
  }
  const directory = name => bytes.readUInt32LE(optional + 112 + 8 * DIRECTORIES[name])

  const imports = []
  if (directory('imports') !== 0) {
    for (let at = place(directory('imports')); bytes.readUInt32LE(at + 12) !== 0; at += IMPORT_BYTES)
      imports.push(text(bytes.readUInt32LE(at + 12)))
  }
  const exports = []
  if (directory('exports') !== 0) {
    const table = place(directory('exports'))
    const names = place(bytes.readUInt32LE(table + 32))
    for (let i = 0; i < bytes.readUInt32LE(table + 24); i++)
      exports.push(text(bytes.readUInt32LE(names + 4 * i)))
  }
  return { imports, exports }
}
