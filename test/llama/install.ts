import { installLlama } from '../../bench/peers/llama/llama-packages.js'

export const setup = (): void => {
  installLlama()
}
