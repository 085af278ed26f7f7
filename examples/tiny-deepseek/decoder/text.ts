/** Bytes are the tokens. Text that streams out byte by byte never shows half a character. */

/** UTF-8 bytes of a text, each a token. */
export function encodeText(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

/** Turns bytes into text as they come: the bytes of a character wait for its last; what can be no character becomes U+FFFD. */
export class TextStream {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true })

  /** The characters that are complete with this byte; often one, none in the middle of a character. */
  push(token: number): string {
    return this.#decoder.decode(Uint8Array.of(token), { stream: true })
  }

  /** What is left: U+FFFD where the text ends inside a character. */
  end(): string {
    return this.#decoder.decode()
  }
}
