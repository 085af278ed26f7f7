/** The names of a checkpoint's tensors, found by how they begin or end without a look at each of them. */

import type { Pacer } from './pacer.js'

/**
 * What a name begins with, its first number and the dot behind it included: `model.layers.12.` of `model.layers.12.mlp.gate.weight`.
 * Undefined where it has no such number. Layers are numbered, so few names share one.
 */
function numberedStart(name: string): string | undefined {
  return /^(?:[^.]*\.)*?\d+\./.exec(name)?.[0]
}

/** The last two segments of a name; undefined of a shorter one. */
function lastSegments(name: string): string | undefined {
  const last = name.lastIndexOf('.')
  return last < 0 ? undefined : name.slice(name.lastIndexOf('.', last - 1) + 1)
}

function add(lists: Map<string | undefined, string[]>, key: string | undefined, name: string): void {
  const list = lists.get(key)
  if (list) list.push(name)
  else lists.set(key, [name])
}

/** Names in the order in which the checkpoint lists them. */
export class TensorNames implements Iterable<string> {
  readonly #all: string[] = []
  readonly #byStart = new Map<string | undefined, string[]>()
  readonly #byEnd = new Map<string | undefined, string[]>()
  readonly #segments = new Set<string>()

  private constructor() {}

  /** Rejects with the pacer's `signal.reason`. */
  static async of(names: Iterable<string>, pacer: Pacer): Promise<TensorNames> {
    const result = new TensorNames()
    for (const name of names) {
      result.#all.push(name)
      add(result.#byStart, numberedStart(name), name)
      add(result.#byEnd, lastSegments(name), name)
      result.#segments.add(name.slice(name.lastIndexOf('.') + 1))
      if (pacer.due) await pacer.turn()
    }
    return result
  }

  [Symbol.iterator](): Iterator<string> {
    return this.#all[Symbol.iterator]()
  }

  /** Names that begin with `prefix`. */
  below(prefix: string): string[] {
    const start = numberedStart(prefix)
    const candidates = start === undefined ? this.#all : (this.#byStart.get(start) ?? [])
    return candidates.filter(name => name.startsWith(prefix))
  }

  /** Whether any name ends with the last segment of `part`. */
  hasSegment(part: string): boolean {
    return this.#segments.has(part.slice(part.lastIndexOf('.') + 1))
  }

  /** Names that end with `segments`, which are whole ones: `gate.weight` is no end of `shared_gate.weight`. */
  endingWith(segments: string): string[] {
    const end = lastSegments(segments)
    const candidates = end === undefined ? this.#all : (this.#byEnd.get(end) ?? [])
    return candidates.filter(
      name =>
        name.endsWith(segments) &&
        (name.length === segments.length || name[name.length - segments.length - 1] === '.'),
    )
  }
}
