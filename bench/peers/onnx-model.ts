/**
 * Writes an ONNX model of one layer: router MatMul, onnxruntime's MoE or QMoE node, shared experts as Gemm. Large weights stay in files of
 * their own ("external data"). The messages are the few of onnx.proto that this needs, encoded by protobufjs.
 */

import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { peerModule } from './peer-packages.js'

const field = (type: string, id: number, rule?: 'repeated') => ({ type, id, ...(rule && { rule }) })

/** Names and numbers of onnx.proto3. */
const ONNX_SCHEMA = {
  nested: {
    ModelProto: {
      fields: {
        irVersion: field('int64', 1),
        producerName: field('string', 2),
        graph: field('GraphProto', 7),
        opsetImport: field('OperatorSetIdProto', 8, 'repeated'),
      },
    },
    OperatorSetIdProto: { fields: { domain: field('string', 1), version: field('int64', 2) } },
    GraphProto: {
      fields: {
        node: field('NodeProto', 1, 'repeated'),
        name: field('string', 2),
        initializer: field('TensorProto', 5, 'repeated'),
        input: field('ValueInfoProto', 11, 'repeated'),
        output: field('ValueInfoProto', 12, 'repeated'),
      },
    },
    NodeProto: {
      fields: {
        input: field('string', 1, 'repeated'),
        output: field('string', 2, 'repeated'),
        name: field('string', 3),
        opType: field('string', 4),
        attribute: field('AttributeProto', 5, 'repeated'),
        domain: field('string', 7),
      },
    },
    AttributeProto: {
      fields: {
        name: field('string', 1),
        f: field('float', 2),
        i: field('int64', 3),
        s: field('bytes', 4),
        type: field('int32', 20),
      },
    },
    TensorProto: {
      fields: {
        dims: field('int64', 1, 'repeated'),
        dataType: field('int32', 2),
        name: field('string', 8),
        externalData: field('StringStringEntryProto', 13, 'repeated'),
        dataLocation: field('int32', 14),
      },
    },
    StringStringEntryProto: { fields: { key: field('string', 1), value: field('string', 2) } },
    ValueInfoProto: { fields: { name: field('string', 1), type: field('TypeProto', 2) } },
    TypeProto: { fields: { tensorType: field('TensorType', 1) } },
    TensorType: { fields: { elemType: field('int32', 1), shape: field('TensorShapeProto', 2) } },
    TensorShapeProto: { fields: { dim: field('Dimension', 1, 'repeated') } },
    Dimension: { fields: { dimValue: field('int64', 1), dimParam: field('string', 2) } },
  },
}

const DATA_TYPES = { float32: 1, uint8: 2 } as const
const ELEMENT_BYTES = { float32: 4, uint8: 1 } as const
const EXTERNAL = 1

/** A weight in a file beside the model. */
export interface Initializer {
  name: string
  dims: readonly number[]
  type: keyof typeof DATA_TYPES
  file: string
  /** Bytes into the file. @defaultValue 0 */
  offset?: number
}

export interface OnnxNode {
  opType: string
  inputs: readonly string[]
  output: string
  domain?: string
  attributes?: Readonly<Record<string, number | string | { float: number }>>
}

interface Protobuf {
  Root: {
    fromJSON(schema: unknown): {
      lookupType(name: string): {
        fromObject(value: unknown): unknown
        encode(message: unknown): { finish(): Uint8Array }
      }
    }
  }
}

function attribute(name: string, value: number | string | { float: number }) {
  if (typeof value === 'string') return { name, s: Buffer.from(value), type: 3 }
  return typeof value === 'number' ? { name, i: value, type: 2 } : { name, f: value.float, type: 1 }
}

const tensorInfo = (name: string, hiddenSize: number) => ({
  name,
  type: {
    tensorType: {
      elemType: DATA_TYPES.float32,
      shape: { dim: [{ dimParam: 'num_tokens' }, { dimValue: hiddenSize }] },
    },
  },
})

/** Graph from `x` to `y`, both `[num_tokens, hiddenSize]`. */
export async function writeOnnxModel(
  file: string,
  hiddenSize: number,
  nodes: readonly OnnxNode[],
  initializers: readonly Initializer[],
): Promise<void> {
  const { Root } = await peerModule<Protobuf>('protobufjs')
  const model = Root.fromJSON(ONNX_SCHEMA).lookupType('ModelProto')
  const message = model.fromObject({
    irVersion: 10,
    producerName: 'sparse-experts bench',
    opsetImport: [
      { domain: '', version: 21 },
      { domain: 'com.microsoft', version: 1 },
    ],
    graph: {
      name: 'moe_layer',
      node: nodes.map(({ opType, inputs, output, domain, attributes = {} }) => ({
        opType,
        input: inputs,
        output: [output],
        name: output,
        domain: domain ?? '',
        attribute: Object.entries(attributes).map(([name, value]) => attribute(name, value)),
      })),
      initializer: initializers.map(({ name, dims, type, file: data, offset = 0 }) => ({
        name,
        dims,
        dataType: DATA_TYPES[type],
        dataLocation: EXTERNAL,
        externalData: Object.entries({
          location: path.basename(data),
          offset: String(offset),
          length: String(dims.reduce((product, size) => product * size, ELEMENT_BYTES[type])),
        }).map(([key, value]) => ({ key, value })),
      })),
      input: [tensorInfo('x', hiddenSize)],
      output: [tensorInfo('y', hiddenSize)],
    },
  })
  writeFileSync(file, model.encode(message).finish())
}
