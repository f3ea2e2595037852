/** What published Python scripts mean by white space, digits and words where JavaScript means something else. */

/** `\s` of a pattern, and what `split()` and `strip()` take for white space: a byte-order mark is none, a file separator is. */
export const pythonSpace = '[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]'

const spaces = new RegExp(`${pythonSpace}+`)
const outer = new RegExp(`^${pythonSpace}+|${pythonSpace}+$`, 'g')

/** `text.split()` */
export const pythonSplit = (text: string): string[] => text.split(spaces).filter((word) => word !== '')

/** `text.strip()` */
export const pythonStrip = (text: string): string => text.replace(outer, '')
