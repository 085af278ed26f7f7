// @ts-check
/** A worker thread with one layer: answers each call, and frees the layer when it is told `null`. JavaScript, because threads load no TypeScript. */

import { parentPort, workerData } from 'node:worker_threads'
import { MoeLayer } from 'sparse-experts'

/** @type {import('./pool.js').WorkerStart} */
const { checkpoint, layer: index, device, threads } = workerData
const port = /** @type {import('node:worker_threads').MessagePort} */ (parentPort)

// A load that fails ends the worker with its error, which the pool passes on.
const layer = await MoeLayer.load(checkpoint, { layer: index, device, threads })
post({ ready: { hiddenSize: layer.config.hiddenSize, device: layer.device } })

/**
 * @param {import('./pool.js').WorkerReady | import('./pool.js').WorkerReply} message
 * @param {import('node:worker_threads').TransferListItem[]} [transfer] memory that moves with it
 */
function post(message, transfer) {
  port.postMessage(message, transfer)
}

port.on('message', async (/** @type {import('./pool.js').WorkerCall | null} */ call) => {
  if (call === null) {
    await layer[Symbol.asyncDispose]()
    port.close()
    return
  }
  try {
    const { output, topkIds, work } = await layer.forward(call.hiddenStates)
    const reply = { id: call.id, output, topkIds, expertTokens: work.expertTokens }
    post(reply, [/** @type {ArrayBuffer} */ (output.buffer)])
  } catch (error) {
    const { code, message } = /** @type {Error & { code?: string }} */ (error)
    post({ id: call.id, error: { code, message } })
  }
})
