/** Errors as OpenAI's clients expect them: `{ "error": { message, type, param, code } }`. */

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    /** The field of the request that is wrong. */
    readonly param: string | null = null,
  ) {
    super(message)
  }

  get type(): string {
    if (this.status === 429) return 'rate_limit_error'
    return this.status >= 500 ? 'server_error' : 'invalid_request_error'
  }

  toJSON(): object {
    const { message, type, param, code } = this
    return { error: { message, type, param, code } }
  }
}

/** 400 for a field of the body. */
export function invalidField(param: string, message: string): ApiError {
  return new ApiError(400, 'invalid_value', message, param)
}

/** Whatever was thrown, as an answer; a stable code of the library stays. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error
  const { code, message } = error as { code?: unknown; message?: unknown }
  const known = typeof code === 'string' && code.startsWith('ERR_MOE_')
  return new ApiError(500, known ? code : 'internal_error', String(message ?? error))
}
