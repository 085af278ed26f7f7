/** Lets the model write, and keeps what each token was made of: the text, and the experts of every sparse layer. */

import { type Decoder, generate, type SamplingOptions, TextStream } from '../tiny-deepseek/decoder/index.js'

/** What one sparse layer did for the tokens of a story. */
export interface StoryLayer {
  layer: number
  numExperts: number
  topK: number
  /** `[numTokens, topK]` */
  topkIds: Int32Array
  topkWeights: Float32Array
  /** FLOPs and weight bytes of all calls, and what a dense layer of all the experts would have taken. */
  work: { flops: number; denseFlops: number; weightBytes: number; denseWeightBytes: number }
}

export interface Story {
  prompt: string
  /** One per generated token: the characters that it completed, '' inside a character. */
  texts: string[]
  tokens: number[]
  layers: StoryLayer[]
  /** Rows that the model computed: the prompt's, and those of each call after it. */
  rows: number
  feedForwardMs: number
  totalMs: number
}

/** A story goes on for so many tokens more to end with a whole word. */
const WORD_TOKENS = 16

export interface StoryOptions extends SamplingOptions {
  /** After which the story ends with the word that it is in. */
  maxTokens: number
  seed: number
}

/**
 * @param onText a token's text and its row of each layer's experts, as it comes; rows are those of the call that the token's logits come
 *   from, so of the token before it
 */
export async function writeStory(
  decoder: Decoder,
  prompt: string,
  options: StoryOptions,
  onText: (text: string, experts: readonly Int32Array[]) => void,
): Promise<Story> {
  const stream = new TextStream()
  const story: Story = { prompt, texts: [], tokens: [], layers: [], rows: 0, feedForwardMs: 0, totalMs: 0 }
  const rows: { ids: Int32Array[]; weights: Float32Array[] }[] = []
  const most = { ...options, maxTokens: options.maxTokens + WORD_TOKENS }
  for await (const { token, result } of generate(decoder, new TextEncoder().encode(prompt), most)) {
    const text = stream.push(token)
    story.texts.push(text)
    story.tokens.push(token)
    story.rows += result.logits.length / decoder.config.vocabSize
    // The first call reads the whole prompt; time per token is that of single tokens.
    if (story.tokens.length > 1) {
      story.feedForwardMs += result.feedForwardMs
      story.totalMs += result.totalMs
    }
    result.routing.forEach(({ layer, numExperts, topK, topkIds, topkWeights, work }, index) => {
      story.layers[index] ??= {
        layer,
        numExperts,
        topK,
        topkIds: new Int32Array(0),
        topkWeights: new Float32Array(0),
        work: { flops: 0, denseFlops: 0, weightBytes: 0, denseWeightBytes: 0 },
      }
      rows[index] ??= { ids: [], weights: [] }
      rows[index].ids.push(topkIds.slice(-topK))
      rows[index].weights.push(topkWeights.slice(-topK))
      const sums = story.layers[index].work
      for (const key of ['flops', 'denseFlops', 'weightBytes', 'denseWeightBytes'] as const)
        sums[key] += work[key]
    })
    onText(
      text,
      rows.map(({ ids }) => ids.at(-1)!),
    )
    if (story.tokens.length >= options.maxTokens && /[^\p{L}]$/u.test(text)) break
  }
  story.layers.forEach((layer, index) => {
    layer.topkIds = Int32Array.from(rows[index]!.ids.flatMap(ids => [...ids]))
    layer.topkWeights = Float32Array.from(rows[index]!.weights.flatMap(weights => [...weights]))
  })
  return story
}

/** Tokens of each expert. */
export function expertLoad({ numExperts, topkIds }: Pick<StoryLayer, 'numExperts' | 'topkIds'>): Int32Array {
  const load = new Int32Array(numExperts)
  for (const id of topkIds) if (id >= 0) load[id]!++
  return load
}
