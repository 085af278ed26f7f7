/** Which peers stand beside each other: those that do the same arithmetic, and what one would take where nobody else does it. */

import { createOurs, OURS_INT8_ACTIVATIONS } from '../harness/our-layer.js'
import type { Peer, PeerLayer } from '../harness/peer.js'
import { createNaive } from './naive.js'
import { createOneDnn } from './onednn.js'
import { createOnnxRuntime, type OnnxKind } from './onnxruntime.js'
import type { PeerGroup } from './peers-options.js'
import { createTorch } from './torch.js'

/** What it is called where it cannot be made, and how it is made; throws with the reason. */
export type Maker = [what: string, make: (layer: PeerLayer) => Promise<Peer> | Peer]

const ours = (dtype: 'f32' | 'bf16' | 'int8' | 'int4'): Maker => [
  `sparse-experts ${dtype}`,
  layer => createOurs(layer, dtype),
]
const int8Activations: Maker = [
  `${OURS_INT8_ACTIVATIONS} int4`,
  layer => createOurs(layer, 'int4', undefined, 'int8'),
]
const onnx = (kind: OnnxKind): Maker => [`onnxruntime-node ${kind}`, layer => createOnnxRuntime(layer, kind)]
const torch = (dtype: 'f32' | 'bf16'): Maker => [`PyTorch ${dtype}`, layer => createTorch(layer, dtype)]

/** Ours first: ratios are to it. Memory for all of one group is needed at a time. */
export const PEER_GROUPS: Readonly<Record<PeerGroup, readonly Maker[]>> = {
  f32: [
    ours('f32'),
    onnx('f32'),
    torch('f32'),
    ['oneDNN f32', createOneDnn],
    ['JavaScript loop', createNaive],
  ],
  // Of the Node packages none computes in bf16: who would take ours in bf16 would else take theirs in f32.
  bf16: [ours('bf16'), torch('bf16'), onnx('f32')],
  // Each quantises the same weights by its own rule. Beside ours also what it would take without codes.
  int8: [ours('int8'), onnx('int8'), ours('bf16')],
  int4: [ours('int4'), onnx('int4'), onnx('int4 as it comes'), ours('bf16'), ours('f32')],
  // Not what other engines compute: beside our own exact arithmetic alone.
  activations: [int8Activations, ours('int4')],
}
