/**
 * Usage: tsx examples/http-server/main.ts <checkpoint> [--host 127.0.0.1] [--port 8080] [--device auto] [--cache-mib N]
 * [--max-queued-tokens 8192] [--max-held-mib 512] [--drain-seconds 5]
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type DeviceOption, MoeModel } from 'sparse-experts'
import { serve } from './server.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    host: { type: 'string', default: '127.0.0.1' },
    port: { type: 'string', default: '8080' },
    device: { type: 'string', default: 'auto' },
    'cache-mib': { type: 'string' },
    'max-queued-tokens': { type: 'string', default: '8192' },
    'max-held-mib': { type: 'string', default: '512' },
    'drain-seconds': { type: 'string', default: '5' },
  },
})
const [checkpoint] = positionals
if (!checkpoint) {
  console.error(
    'Usage: tsx examples/http-server/main.ts <checkpoint> [--host H] [--port N] [--device D] [--cache-mib N] [--max-queued-tokens N] [--max-held-mib N] [--drain-seconds N]',
  )
  process.exit(2)
}
const cacheMiB = values['cache-mib']
const model = await MoeModel.load(checkpoint, {
  device: values.device as DeviceOption,
  // On cpu: experts that do not fit stay in the checkpoint.
  cache: cacheMiB === undefined ? undefined : { hostBytes: Number(cacheMiB) * 2 ** 20 },
  maxQueuedTokens: Number(values['max-queued-tokens']),
})
const running = await serve(model, {
  host: values.host,
  port: Number(values.port),
  maxHeldBytes: Number(values['max-held-mib']) * 2 ** 20,
  logger: { level: 'warn', stream: process.stderr },
})
const { config, device } = model.layer(model.layers[0]!)
console.log(`${config.family} on ${device}: http://${values.host}:${running.port}`)

let stopping = false
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, async () => {
    if (stopping) process.exit(1)
    stopping = true
    running.drain()
    // Who types Ctrl-C has no load balancer that must first hear of it.
    if (signal === 'SIGTERM') await sleep(Number(values['drain-seconds']) * 1000)
    console.log(`${signal}: finishing accepted requests`)
    await running.close()
  })
}
