/** What the server takes on at a time. Everything that a client could make grow has a bound here. */

export interface ServerLimits {
  /** Sequences that run together; each holds a cache. */
  maxSequences: number
  /** Completions that wait for one to end. Beyond them there is 429. */
  maxWaiting: number
  /** Rows of prompts in one step, beside one row for each running sequence: a new prompt holds up the running ones no longer than that. */
  maxPromptRows: number
  /** Largest `max_tokens` of a request. */
  maxTokens: number
  /** Of a request's body. */
  maxBodyBytes: number
  /** That wait for one client to read them; its sequence pauses beyond that. */
  maxUnreadBytes: number
  /** A client that reads nothing for so long, with bytes waiting for it, is cut off. */
  readerTimeoutMs: number
  /** Connections, whatever they ask. */
  maxConnections: number
}

export const DEFAULT_LIMITS: Readonly<ServerLimits> = {
  maxSequences: 64,
  maxWaiting: 64,
  maxPromptRows: 64,
  maxTokens: 4096,
  maxBodyBytes: 64 * 1024,
  maxUnreadBytes: 16 * 1024,
  readerTimeoutMs: 30_000,
  maxConnections: 1024,
}
