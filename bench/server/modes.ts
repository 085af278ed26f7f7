/** How a server runs the calls of many clients. */
export const MODES = ['alone', 'batched by the server', 'as one'] as const
export type Mode = (typeof MODES)[number]
