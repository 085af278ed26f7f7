/** A pool of worker threads, each with a layer of its own: two layers of a model at once, or one layer twice. */

import { Worker } from 'node:worker_threads'
import type { DeviceOption } from 'sparse-experts'

/** What a worker is told when it starts. */
export interface WorkerStart {
  checkpoint: string
  layer?: number
  device: DeviceOption
  /** CPU threads of this worker's forwards: the workers share the machine. */
  threads: number
}

/** What a worker says once, when its layer is loaded. */
export interface WorkerReady {
  ready: { hiddenSize: number; device: string }
}

/** A call, and its answer. */
export interface WorkerCall {
  id: number
  hiddenStates: Float32Array
}

export type WorkerReply =
  | { id: number; output: Float32Array; topkIds: Int32Array; expertTokens: Int32Array }
  | { id: number; error: { code?: string; message: string } }

type Answer = Extract<WorkerReply, { output: Float32Array }>
interface Waiting {
  resolve(answer: Answer): void
  reject(error: Error): void
}

/** One worker and the calls that it owes an answer. */
class PooledWorker {
  /** Resolves when the layer is loaded. */
  readonly ready: Promise<WorkerReady['ready']>
  readonly #worker: Worker
  readonly #waiting = new Map<number, Waiting>()
  #nextId = 1

  constructor(start: WorkerStart) {
    this.#worker = new Worker(new URL('./worker.mjs', import.meta.url), { workerData: start })
    this.ready = new Promise((resolve, reject) => {
      this.#worker.once('message', (message: WorkerReady) => resolve(message.ready))
      this.#worker.once('error', reject)
    })
    this.#worker.on('message', (reply: WorkerReply | WorkerReady) => {
      if ('ready' in reply) return
      const call = this.#waiting.get(reply.id)
      this.#waiting.delete(reply.id)
      if ('error' in reply)
        call?.reject(Object.assign(new Error(reply.error.message), { code: reply.error.code }))
      else call?.resolve(reply)
    })
    this.#worker.on('error', error => this.#failAll(error))
    this.#worker.on('exit', code => this.#failAll(new Error(`The worker ended with status ${code}`)))
  }

  /** Calls without an answer yet. */
  get load(): number {
    return this.#waiting.size
  }

  /** The memory of `hiddenStates` moves to the worker: the array is empty afterwards. */
  forward(hiddenStates: Float32Array<ArrayBuffer>): Promise<Answer> {
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      this.#worker.postMessage({ id, hiddenStates } satisfies WorkerCall, [hiddenStates.buffer])
    })
  }

  async close(): Promise<void> {
    const ended = new Promise(resolve => this.#worker.once('exit', resolve))
    this.#worker.postMessage(null)
    await ended
  }

  #failAll(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
  }
}

/** Sends each call to the worker that has the fewest. */
export class LayerPool {
  readonly #workers: PooledWorker[]

  constructor(starts: readonly WorkerStart[]) {
    this.#workers = starts.map(start => new PooledWorker(start))
  }

  forward(hiddenStates: Float32Array<ArrayBuffer>): Promise<Answer> {
    return this.#workers.reduce((a, b) => (b.load < a.load ? b : a)).forward(hiddenStates)
  }

  /** Resolves when every layer is loaded: what the workers said. */
  ready(): Promise<WorkerReady['ready'][]> {
    return Promise.all(this.#workers.map(worker => worker.ready))
  }

  /** Frees the layers; calls that were accepted finish first. */
  async close(): Promise<void> {
    await Promise.all(this.#workers.map(worker => worker.close()))
  }
}
