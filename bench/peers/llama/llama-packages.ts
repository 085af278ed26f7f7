/** node-llama-cpp, as far as this repository uses it: installed in this folder when it is asked for. */

import { readFileSync } from 'node:fs'
import path from 'node:path'
import { installPackages, packageVersion } from '../../harness/packages.js'

export const NAME = 'node-llama-cpp'
const directory = import.meta.dirname

export interface LlamaSequence {
  clearHistory(): Promise<void>
  evaluateWithoutGeneratingNewTokens(tokens: readonly number[]): Promise<unknown>
  /** By token of the input, where asked for: the logits of the token that would come next. */
  controlledEvaluate(
    tokens: readonly (readonly [token: number, { generateNext: { logits: true } }])[],
  ): Promise<{ next: { logits: ReadonlyMap<number, number> } }[]>
}

export interface LlamaContext {
  getSequence(): LlamaSequence
  dispose(): Promise<void>
}

export interface LlamaModel {
  createContext(options: object): Promise<LlamaContext>
  dispose(): Promise<void>
}

export interface Llama {
  loadModel(options: object): Promise<LlamaModel>
  dispose(): Promise<void>
}

/**
 * Installs it without its builds for GPUs, which are most of it. Not from a lockfile: its builds for other systems are optional
 * dependencies, and a lockfile that lacks one of them is refused. @throws where that fails
 */
export function installLlama(): string {
  const { dependencies } = JSON.parse(readFileSync(path.join(directory, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>
  }
  const built = `@node-llama-cpp/${process.platform}-${process.arch}@${dependencies[NAME]}`
  installPackages(directory, ['--omit=optional'], [built])
  return packageVersion(directory, NAME)
}

/** It on the CPU, once it is installed. */
export async function loadLlama(maxThreads: number): Promise<Llama> {
  const { getLlama } = (await import(path.join(directory, 'node_modules', NAME, 'dist/index.js'))) as {
    getLlama(options: object): Promise<Llama>
  }
  return getLlama({ gpu: false, build: 'never', logLevel: 'error', maxThreads })
}
