import { type ForwardResult, MoeLayer } from 'sparse-experts'

export async function run(directory: string): Promise<ForwardResult> {
  using layer: MoeLayer = await MoeLayer.load(directory, { device: 'auto', dtype: 'auto' })
  const result = await layer.forward(new Float32Array(layer.config.hiddenSize))
  const ids: Int32Array = result.topkIds
  if (ids.length !== layer.config.topK) throw new Error('one row')
  return result
}
