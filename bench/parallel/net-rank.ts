/**
 * A rank of two that exchanges bytes with the other over node:net: `net-rank.ts RANK`, with the lines of rank_exchange.cc. The address is a
 * port of the loopback interface.
 */

import { createConnection, createServer, type Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import { createInterface } from 'node:readline'

const rank = Number(process.argv[2])

/** Rank 0 listens, rank 1 connects. */
async function connected(lines: AsyncIterator<string>): Promise<Socket> {
  if (rank === 1) {
    console.log('none')
    const { value: port } = await lines.next()
    const socket = createConnection({ host: '127.0.0.1', port: Number(port), noDelay: true })
    await new Promise(resolve => socket.once('connect', resolve))
    return socket
  }
  const server = createServer({ noDelay: true })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const accepted = new Promise<Socket>(resolve => server.once('connection', resolve))
  console.log((server.address() as { port: number }).port)
  await lines.next()
  const socket = await accepted
  server.close()
  return socket
}

async function main(): Promise<void> {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  const socket = await connected(lines)
  let received = 0
  let wake = () => {}
  socket.on('data', chunk => {
    received += chunk.length
    wake()
  })
  const exchange = async (message: Buffer) => {
    socket.write(message)
    while (received < message.length) await new Promise<void>(resolve => (wake = resolve))
    received -= message.length
  }
  for await (const line of { [Symbol.asyncIterator]: () => lines }) {
    const [bytes = 0, times = 0] = line.split(' ').map(Number)
    const message = Buffer.alloc(bytes, 1)
    const measured: number[] = []
    for (let i = 0; i < times; i++) {
      const begun = performance.now()
      await exchange(message)
      measured.push((performance.now() - begun) * 1000)
    }
    if (rank === 0) console.log(measured.join(' '))
  }
  socket.destroy()
}

await main()
