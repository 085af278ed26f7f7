/** Rewrites what stands between two markers of a text. */

export const BEGIN = '<!-- bench:begin -->'
export const END = '<!-- bench:end -->'

/** @throws where a marker is missing, doubled or in the wrong order */
export function replaceBetweenMarkers(text: string, content: string): string {
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)]
  const isOnce = text.lastIndexOf(BEGIN) === begin && text.lastIndexOf(END) === end
  if (begin < 0 || end < begin || !isOnce)
    throw new Error(`the text needs ${BEGIN} and ${END} once, in this order`)
  return `${text.slice(0, begin + BEGIN.length)}\n${content.trim()}\n${text.slice(end)}`
}
