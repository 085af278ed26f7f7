/**
 * The trained model behind OpenAI's completion API.
 *
 *   npm run tiny:serve -- [--port 8080] [--host 127.0.0.1] [--max-sequences N] [--max-waiting N] [--max-prompt-rows N]
 *                         [--device D] [--dtype auto|f32|f16|bf16] [--model DIR]
 *
 * SIGTERM or SIGINT: takes no new completions, ends those that it has, exits with 0. A second one ends it at once.
 */

import { parseArgs } from 'node:util'
import { type DeviceOption, type DType, setLogger } from 'sparse-experts'
import { Decoder } from '../decoder/decoder.js'
import { MODEL_DIRECTORY } from '../files.js'
import { integerOption } from './arguments.js'
import { DEFAULT_LIMITS } from './limits.js'
import { CompletionServer } from './server.js'

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '8080' },
    host: { type: 'string', default: '127.0.0.1' },
    'max-sequences': { type: 'string', default: String(DEFAULT_LIMITS.maxSequences) },
    'max-waiting': { type: 'string', default: String(DEFAULT_LIMITS.maxWaiting) },
    'max-prompt-rows': { type: 'string', default: String(DEFAULT_LIMITS.maxPromptRows) },
    device: { type: 'string', default: 'auto' },
    dtype: { type: 'string', default: 'auto' },
    model: { type: 'string', default: MODEL_DIRECTORY },
  },
})
const options = {
  host: values.host,
  port: integerOption('port', values.port, 0),
  maxSequences: integerOption('max-sequences', values['max-sequences'], 1),
  maxWaiting: integerOption('max-waiting', values['max-waiting'], 0),
  maxPromptRows: integerOption('max-prompt-rows', values['max-prompt-rows'], 1),
}
setLogger(null)
const decoder = await Decoder.load(values.model, {
  device: values.device as DeviceOption,
  dtype: values.dtype as 'auto' | DType,
  // A text must not depend on who runs beside it.
  batchInvariant: true,
})
const server = await CompletionServer.listen(decoder, options)
// Signals go to this process: npm and npx, which may have started it, may keep them to themselves.
console.log(
  `process ${process.pid} on ${decoder.device}, ${decoder.dtype}: http://${values.host}:${server.port}`,
)

let isStopping = false
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (isStopping) process.exit(1)
    isStopping = true
    console.log(`${signal}: ending ${server.figures.running + server.figures.waiting} completions`)
    void server.close()
  })
}
