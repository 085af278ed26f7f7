/**
 * Clients of the completion server that check each stream, and figures of what they met.
 *
 *   npm run tiny:load -- [--clients 50] [--seconds 60] [--max-tokens 64] [--hang-ups PERCENT] [--url http://127.0.0.1:8080]
 *
 * Without --url it starts a server for itself, in a process of its own, and ends it with SIGTERM. Exits with 1 where a stream was wrong.
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { integerOption } from '../arguments.js'
import { reportLines } from './report.js'
import { runClients } from './run-clients.js'

const { values } = parseArgs({
  options: {
    clients: { type: 'string', default: '50' },
    seconds: { type: 'string', default: '60' },
    'max-tokens': { type: 'string', default: '64' },
    'hang-ups': { type: 'string', default: '0' },
    url: { type: 'string' },
  },
})

/** A server on a free port, started as this program was. */
async function startServer(): Promise<{ url: string; stop(): Promise<number | null> }> {
  const program = process.argv[1]!
  const file = path.resolve(program, `../../main${path.extname(program)}`)
  const child = spawn(process.execPath, [...process.execArgv, file, '--port', '0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit')
  for await (const line of createInterface(child.stdout)) {
    const url = /http:\S+/.exec(line)?.[0]
    if (!url) continue
    const stop = async () => {
      child.kill('SIGTERM')
      return (await ended)[0] as number | null
    }
    return { url, stop }
  }
  throw new Error(`the server ended with status ${(await ended)[0]}`)
}

const options = {
  clients: integerOption('clients', values.clients, 1),
  seconds: integerOption('seconds', values.seconds, 1),
  maxTokens: integerOption('max-tokens', values['max-tokens'], 1),
  hangUps: integerOption('hang-ups', values['hang-ups'], 0),
}
const server = values.url === undefined ? await startServer() : undefined
const figures = await runClients(values.url ?? server!.url, options)
const status = (await server?.stop()) ?? 0
console.log(`${options.clients} clients, ${options.seconds} s\n${reportLines(figures).join('\n')}`)
if (server && status !== 0) console.error(`the server ended with status ${status}`)
if (figures.failures.length > 0 || figures.ended.length === 0 || status !== 0) process.exitCode = 1
