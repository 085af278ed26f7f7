// A layer small enough to write down, and the relative error of one device against the reference on it.

const config = {
  scoringFunc: 'softmax',
  normTopkProb: true,
  numExperts: 4,
  topK: 2,
  hiddenSize: 8,
  intermediateSize: 16,
}

function values(length, seed) {
  return Float32Array.from({ length }, (_, i) => Math.sin(1.7 * i + seed) / 2)
}

const weights = {
  router: { weight: values(config.numExperts * config.hiddenSize, 1) },
  experts: Array.from({ length: config.numExperts }, (_, e) => ({
    gate: values(config.intermediateSize * config.hiddenSize, 10 + e),
    up: values(config.intermediateSize * config.hiddenSize, 20 + e),
    down: values(config.hiddenSize * config.intermediateSize, 30 + e),
  })),
}

async function forward(MoeLayer, device) {
  const layer = MoeLayer.create(config, weights, { device, dtype: 'f32' })
  try {
    const { output, topkIds } = await layer.forward(values(3 * config.hiddenSize, 5))
    return { device: layer.device, output, topkIds: [...topkIds] }
  } finally {
    layer.dispose()
  }
}

export const compare = async (MoeLayer, device) => {
  const got = await forward(MoeLayer, device)
  const expected = await forward(MoeLayer, 'reference')
  let difference = 0
  let norm = 0
  for (let i = 0; i < expected.output.length; i++) {
    difference += (got.output[i] - expected.output[i]) ** 2
    norm += expected.output[i] ** 2
  }
  return {
    node: process.versions.node,
    device: got.device,
    sameIds: JSON.stringify(got.topkIds) === JSON.stringify(expected.topkIds),
    relativeError: Math.sqrt(difference / norm),
  }
}
