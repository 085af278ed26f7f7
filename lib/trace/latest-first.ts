/** Keys with times, of which the latest are removed first. */

import { allocate } from '../block/allocate.js'

/** Entries of keys that have other times by now may be so many times as many as the keys before they are cleared out. */
const MOST_STALE = 4

export class LatestFirst {
  /** Of each key; -1: it is not in here. */
  readonly #timeOf: Int32Array
  #size = 0
  /** A heap of pairs (time, key), latest first. A pair whose time is not that of its key is stale. */
  #heap: [time: number, key: number][] = []

  /** @param numKeys keys are below it */
  constructor(numKeys: number) {
    this.#timeOf = allocate(Int32Array, numKeys).fill(-1)
  }

  has(key: number): boolean {
    return this.#timeOf[key]! >= 0
  }

  /** @param time at least 0 */
  set(key: number, time: number): void {
    if (!this.has(key)) this.#size++
    this.#timeOf[key] = time
    if (this.#heap.length > MOST_STALE * this.#size + 64) this.#clear()
    else this.#push(time, key)
  }

  /** Removes the latest until there are at most `size`. */
  shrink(size: number): void {
    while (this.#size > size) {
      const [time, key] = this.#pop()
      if (this.#timeOf[key] !== time) continue
      this.#timeOf[key] = -1
      this.#size--
    }
  }

  /** Puts every key in once. */
  #clear(): void {
    this.#heap = []
    for (const [key, time] of this.#timeOf.entries()) if (time >= 0) this.#push(time, key)
  }

  #push(time: number, key: number): void {
    const heap = this.#heap
    let at = heap.length
    heap.push([time, key])
    while (at > 0) {
      const above = (at - 1) >> 1
      if (heap[above]![0] >= time) break
      heap[at] = heap[above]!
      at = above
    }
    heap[at] = [time, key]
  }

  #pop(): [time: number, key: number] {
    const heap = this.#heap
    const top = heap[0]!
    const last = heap.pop()!
    if (heap.length === 0) return top
    let at = 0
    for (;;) {
      let below = 2 * at + 1
      if (below >= heap.length) break
      if (below + 1 < heap.length && heap[below + 1]![0] > heap[below]![0]) below++
      if (heap[below]![0] <= last[0]) break
      heap[at] = heap[below]!
      at = below
    }
    heap[at] = last
    return top
  }
}
