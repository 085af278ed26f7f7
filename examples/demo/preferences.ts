/** Which characters each expert takes most, over a text that a model read. */

import type { StoryLayer } from './story.js'

/** A layer's experts for each row of a text: `topkIds` is `[numRows, topK]`, −1 where a slot was dropped. */
export type RoutedLayer = Pick<StoryLayer, 'layer' | 'numExperts' | 'topK' | 'topkIds'>

/** A text as the model read it: a byte per row, and where each layer sent it. */
export interface Reading {
  bytes: readonly number[]
  layers: readonly RoutedLayer[]
}

/** One byte value as an expert sees it. */
export interface Favourite {
  byte: number
  /** Rows with this byte that the expert worked on. */
  taken: number
  /** Rows with this byte. */
  occurrences: number
}

export interface Preference {
  expert: number
  /** Rows that the expert worked on. */
  rows: number
  /** The bytes that it took most often, the most frequent first. */
  favourites: Favourite[]
}

const BYTE_NAMES = new Map([
  [0x09, 'tab'],
  [0x0a, 'line end'],
  [0x20, 'space'],
])

/** A byte as a person reads it: its ASCII character, the name of a blank, else its number, because it is only a part of a character. */
export function byteLabel(byte: number): string {
  if (byte > 0x20 && byte < 0x7f) return String.fromCharCode(byte)
  return BYTE_NAMES.get(byte) ?? `byte ${byte.toString(16).toUpperCase().padStart(2, '0')}`
}

/** Every expert of a layer with the `most` bytes that it took most often. */
export function preferences(
  bytes: readonly number[],
  { numExperts, topK, topkIds }: RoutedLayer,
  most: number,
): Preference[] {
  const occurrences = new Map<number, number>()
  const taken = Array.from({ length: numExperts }, () => new Map<number, number>())
  const count = (counts: Map<number, number>, byte: number) => counts.set(byte, (counts.get(byte) ?? 0) + 1)
  bytes.forEach((byte, row) => {
    count(occurrences, byte)
    for (const expert of topkIds.subarray(row * topK, (row + 1) * topK))
      if (expert >= 0) count(taken[expert]!, byte)
  })
  return taken.map((counts, expert) => ({
    expert,
    rows: [...counts.values()].reduce((a, b) => a + b, 0),
    favourites: [...counts]
      .map(([byte, times]) => ({ byte, taken: times, occurrences: occurrences.get(byte)! }))
      .sort((a, b) => b.taken - a.taken || a.byte - b.byte)
      .slice(0, most),
  }))
}
