/** The body of `/metrics`: the layer's figures, and what the server itself holds. */

import { type MoeLayer, metrics } from 'sparse-experts'

/** @param heldBytes of all requests, in bytes */
export function renderMetrics(layer: MoeLayer, heldBytes: number): string {
  return `${metrics(layer)}# HELP http_held_bytes Bodies, inputs and outputs of requests that are not answered
# TYPE http_held_bytes gauge
http_held_bytes ${heldBytes}
`
}
