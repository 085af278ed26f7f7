/** What to do about each error: what the command line says below a message, and the last column of docs/errors.md, which a test compares. */

import type { MoeErrorCode } from '../block/errors.js'

export const REMEDIES: Readonly<Record<MoeErrorCode, string>> = {
  ERR_MOE_INVALID_ARG_TYPE: 'Fix the call. The message names the argument, what was expected and what came.',
  ERR_MOE_INVALID_ARG_VALUE: 'Fix the call. The message names the argument, what is allowed and what came.',
  ERR_MOE_INVALID_ARG_SHAPE: 'Fix the call. Hidden states are [numTokens, hiddenSize], row-major.',
  ERR_MOE_UNKNOWN_OPTION: 'Fix the spelling; the message names the nearest key.',
  ERR_MOE_UNSUPPORTED_OPTION: 'Leave it out; the message says what to do instead.',
  ERR_MOE_MISSING_INPUT: 'Give tokenIds (hash-routed layers) or routerInput (Gemma 4).',
  ERR_MOE_INVALID_CONFIG: 'Compare config.json with the published one; details names file and field.',
  ERR_MOE_UNSUPPORTED_FAMILY: 'See docs/families.md, or describe the block with MoeLayer.create.',
  ERR_MOE_UNSUPPORTED_FORMAT:
    'Use another publication of the model; docs/checkpoints.md lists the formats. Where an option (weights, activations) is what does not fit, the message names the one that does.',
  ERR_MOE_NOT_SPARSE: 'Ask for another layer, or leave it out.',
  ERR_MOE_INVALID_CHECKPOINT:
    'The file is damaged or half downloaded: fetch it again. details has file, tensor, offset.',
  ERR_MOE_MISSING_TENSOR:
    'A shard or a tensor is missing, or the names are unknown to the family row: fetch the checkpoint again.',
  ERR_MOE_TENSOR_MISMATCH: 'config.json and the weights do not belong together: fetch both again.',
  ERR_MOE_IO:
    "Check path and permissions; cause is the system's error where there is one. Of a layer with a cache it fails the calls that needed the file, and those alone.",
  ERR_MOE_NATIVE_LOAD:
    'Arrives as the cause of ERR_MOE_DEVICE_UNAVAILABLE. Run npx sparse-experts doctor; docs/guide/troubleshooting.md.',
  ERR_MOE_NATIVE_VERSION: 'Arrives the same way. A stale build: reinstall, or run npx sparse-experts build.',
  ERR_MOE_DEVICE_UNAVAILABLE:
    "Read details.reason, or run npx sparse-experts doctor; use device: 'auto' to fall back.",
  ERR_MOE_DEVICE_LOST:
    'Restart the process: nothing in it can use the GPU again, other devices serve on. layer.health() keeps the cause.',
  ERR_MOE_OUT_OF_MEMORY:
    'A smaller dtype, fewer layers, fewer tokens per call, or more memory. What failed is gone, the device goes on.',
  ERR_MOE_CACHE_TOO_SMALL:
    'Give it what the message names; several times of it for a hit rate that pays. Or load fewer layers, or hold experts in fewer bits (weights).',
  ERR_MOE_TRACE_INVALID:
    'Give the directory that was given to record, with all of its files; the message names file and defect.',
  ERR_MOE_DISPOSED: 'Do not use it after dispose().',
  ERR_MOE_QUEUE_FULL: 'Retry later; a server answers 429 with Retry-After.',
  ERR_MOE_BUFFER_BUSY: 'Wait for the other call, or use another buffer.',
  ERR_MOE_BUFFER_DETACHED: 'Do not transfer a buffer before the promise settles.',
  ERR_MOE_UNKNOWN_COMMAND: 'Fix the spelling; npx sparse-experts --help lists the commands.',
  ERR_MOE_MISSING_ARGUMENT: "Give what the message names; the command's --help shows where.",
  ERR_MOE_UNEXPECTED_ARGUMENT:
    "Leave out what the message names, or put it in quotes; the command's --help shows what fits.",
  ERR_MOE_BUILD_FAILED:
    "Install what the lines above the message name, or correct what the compiler complains of, then run npx sparse-experts build again. Until then device: 'reference' serves.",
  ERR_MOE_INTERNAL: 'Report it with the output of npx sparse-experts doctor --json.',
}
