/** The objects of OpenAI's API that this server answers with. */

import { randomUUID } from 'node:crypto'
import type { FinishReason, Usage } from './job.js'

/** What all objects of one completion begin with. */
export interface CompletionHead {
  id: string
  object: 'text_completion'
  /** Seconds since 1970. */
  created: number
  model: string
}

export function newCompletionHead(model: string): CompletionHead {
  return {
    id: `cmpl-${randomUUID()}`,
    object: 'text_completion',
    created: Math.floor(Date.now() / 1000),
    model,
  }
}

/** A whole completion, or with `finishReason` null a piece of one. */
export function completionObject(head: CompletionHead, text: string, finishReason: FinishReason | null) {
  return { ...head, choices: [{ index: 0, text, logprobs: null, finish_reason: finishReason }] }
}

export function usageObject({ promptTokens, completionTokens }: Usage) {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
  }
}

export function modelList(model: string, created: number) {
  return { object: 'list', data: [{ id: model, object: 'model', created, owned_by: 'sparse-experts' }] }
}
