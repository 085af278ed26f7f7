/** Keeps printed tables in the README: the text between `<!-- NAME -->` and `<!-- /NAME -->` is what a command printed last. */

import { readFile, writeFile } from 'node:fs/promises'

/** @throws Error where the section is not there exactly once */
export function replaceSection(markdown: string, name: string, lines: readonly string[]): string {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`]
  const parts = markdown.split(begin)
  const rest = parts[1]?.split(end)
  if (parts.length !== 2 || rest?.length !== 2) throw new Error(`there is no single section '${name}'`)
  return `${parts[0]}${begin}\n\n\`\`\`text\n${lines.join('\n')}\n\`\`\`\n\n${end}${rest[1]}`
}

export async function writeSection(file: string, name: string, lines: readonly string[]): Promise<void> {
  await writeFile(file, replaceSection(await readFile(file, 'utf8'), name, lines))
}
