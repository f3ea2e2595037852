/** The documents of the package and what stands in them. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../../', import.meta.url))

const folders = ['bench', 'cuda', 'docs', 'lexica', 'models', 'native', 'src', 'test']

/** Every Markdown file, by its path from the root. */
export const pages = new Map(
  [
    ...readdirSync(root),
    ...folders.flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name)),
    ),
  ]
    .filter((name) => name.endsWith('.md'))
    .map((name) => [name, readFileSync(join(root, name), 'utf8')]),
)

export interface Block {
  /** Empty of one without. */
  language: string
  code: string
}

/** Code blocks: between fences, or indented below an empty line. */
export const blocks = (page: string): Block[] => [
  ...[...page.matchAll(/^```(\w*)\n([\s\S]*?)^```/gm)].map(([, language, code]) => ({ language, code })),
  ...[...prose(page).matchAll(/\n\n((?: {4}.*\n)+)/g)].map(([, code]) => ({ language: '', code })),
]

/** A page without its fenced blocks. */
export const prose = (page: string): string => page.replaceAll(/^```[\s\S]*?^```/gm, '')

/** Commands of a block, each on one line, without comments. */
export const commandsOf = ({ code }: Block): string[] =>
  code
    .replaceAll(/\\\n\s*/g, ' ')
    .split('\n')
    .map((line) => line.replace(/(^|\s)#.*$/, '').trim())
    .filter((line) => line !== '')

/** The words of a command as a shell splits them, as far as the documents use it. */
export const wordsOf = (line: string): string[] =>
  [...line.matchAll(/(?:"[^"]*"|'[^']*'|\S)+/g)].map(([word]) => word.replaceAll(/"([^"]*)"|'([^']*)'/g, '$1$2'))
