import moe = require('sparse-experts')

export const codeOf = (error: moe.MoeError): moe.MoeErrorCode => error.code
export const load = (directory: string): Promise<moe.MoeLayer> => moe.MoeLayer.load(directory)
