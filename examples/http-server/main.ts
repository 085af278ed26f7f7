/** Usage: tsx examples/http-server/main.ts <checkpoint> [--port 8080] [--device auto] [--max-queued-tokens 8192] [--max-held-mib 512] */

import { parseArgs } from 'node:util'
import { type DeviceOption, MoeLayer } from 'sparse-experts'
import { serve } from './server.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    port: { type: 'string', default: '8080' },
    device: { type: 'string', default: 'auto' },
    'max-queued-tokens': { type: 'string', default: '8192' },
    'max-held-mib': { type: 'string', default: '512' },
  },
})
const [directory] = positionals
if (!directory) {
  console.error(
    'Usage: tsx examples/http-server/main.ts <checkpoint> [--port N] [--device D] [--max-queued-tokens N] [--max-held-mib N]',
  )
  process.exit(2)
}
const layer = await MoeLayer.load(directory, {
  device: values.device as DeviceOption,
  maxQueuedTokens: Number(values['max-queued-tokens']),
})
const running = await serve(layer, {
  port: Number(values.port),
  maxHeldBytes: Number(values['max-held-mib']) * 2 ** 20,
})
console.log(`${layer.config.family} on ${layer.device}: http://127.0.0.1:${running.port}`)

let stopping = false
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (stopping) process.exit(1)
    stopping = true
    console.log(`${signal}: finishing accepted requests`)
    void running.close()
  })
}
