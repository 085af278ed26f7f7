/** A request that this server itself refuses, beside what Fastify and the library refuse. */
export class HttpError extends Error {
  /**
   * @param statusCode that the client gets
   * @param code stable, for programs: BODY_TOO_LARGE, OVERLOADED, BAD_BODY or NOT_FOUND
   */
  constructor(
    readonly statusCode: number,
    readonly code: string,
    message: string,
  ) {
    super(message)
  }
}
