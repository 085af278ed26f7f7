/** The pixels of a PNG as browsers write screenshots: 8 bits per channel, RGB or RGBA, not interlaced. */

import { inflateSync } from 'node:zlib'

export interface Pixels {
  width: number
  height: number
  /** Red, green and blue as one number, as in `#rrggbb`. */
  at(x: number, y: number): number
}

const SIGNATURE = '89504e470d0a1a0a'

/** @throws Error for what browsers do not write */
export function readPng(bytes: Buffer): Pixels {
  if (bytes.subarray(0, 8).toString('hex') !== SIGNATURE) throw new Error('no PNG')
  const [width, height] = [bytes.readUInt32BE(16), bytes.readUInt32BE(20)]
  const [depth, colour, interlaced] = [bytes[24], bytes[25], bytes[28]]
  if (depth !== 8 || (colour !== 2 && colour !== 6) || interlaced !== 0)
    throw new Error(`depth ${depth}, colour type ${colour}, interlacing ${interlaced}`)
  const data: Buffer[] = []
  for (let offset = 8; offset < bytes.length; ) {
    const length = bytes.readUInt32BE(offset)
    const type = bytes.toString('latin1', offset + 4, offset + 8)
    if (type === 'IDAT') data.push(bytes.subarray(offset + 8, offset + 8 + length))
    // Length, type and checksum take 12 bytes.
    offset += length + 12
  }
  const size = colour === 6 ? 4 : 3
  const pixels = unfilter(inflateSync(Buffer.concat(data)), width * size, height, size)
  return {
    width,
    height,
    at: (x, y) => pixels.readUIntBE((y * width + x) * size, 3),
  }
}

/** Every row begins with the way in which its bytes were made smaller: against the left, the upper or both neighbours. */
function unfilter(raw: Buffer, rowBytes: number, height: number, size: number): Buffer {
  const out = Buffer.alloc(rowBytes * height)
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (rowBytes + 1)]
    for (let x = 0; x < rowBytes; x++) {
      const left = x < size ? 0 : out[y * rowBytes + x - size]!
      const up = y === 0 ? 0 : out[(y - 1) * rowBytes + x]!
      const corner = x < size || y === 0 ? 0 : out[(y - 1) * rowBytes + x - size]!
      const predicted = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter!]!
      out[y * rowBytes + x] = raw[y * (rowBytes + 1) + 1 + x]! + predicted
    }
  }
  return out
}

function paeth(left: number, up: number, corner: number): number {
  const [a, b, c] = [up - corner, left - corner, left + up - 2 * corner].map(Math.abs) as [
    number,
    number,
    number,
  ]
  return a <= b && a <= c ? left : b <= c ? up : corner
}
