/** What an error about a stored form ends with. */

/** What reads where a publication's own form does not. */
export const HELP =
  'use a publication of the model in bf16, fp8, mxfp8, mxfp4, nvfp4, compressed-tensors, GPTQ or AWQ integers'
