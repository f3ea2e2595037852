/** What lies at SOURCE, and by which of its layouts a kind can read it. */
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, extname, join, relative } from 'node:path'
import type { ManifestLine } from '../corrupt/index.js'
import type { Sample } from '../data/records.js'
import { ArgumentError, asFileError, DataError, fileError } from '../errors.js'
import { nearest } from '../options.js'
import { type ConvertSettings, type Draft, LeftOut, type Row } from './draft.js'
import type { Fields, Notes } from './fields.js'
import type { ImageStore } from './images.js'
import { readRows } from './readers.js'
import { readStart } from './text-file.js'

/** One published form of a kind of data. */
export interface Layout {
  name: string
  /** In words, for the message that nothing was recognised. */
  looksLike: string
  /** Its files at SOURCE, in the order they are read; none when SOURCE is something else. */
  find(source: Source): Promise<string[]>
  /** Folders below the image root, in the order they are tried. */
  imageFolders: readonly string[]
  /** Rows of all files; by default of each by its extension. */
  read?(files: readonly string[], note: Notes): AsyncIterable<Row>
  convert(fields: Fields, row: Row, settings: ConvertSettings): Draft
  /** Looks at what lies beside the images of a finished record; returns what to add to `meta`. */
  beside?(draft: Draft, store: ImageStore, note: Notes): Promise<Record<string, unknown>>
}

export interface Kind {
  /** `dataset` of its records and first part of their ids. */
  name: string
  /** Its licence and whom to name, kept beside the data. */
  licence: string
  layouts: readonly Layout[]
  /** Lines of a mask manifest (docs/corruption.md) for the images of a sample; paths are those in the import's folder. */
  masksOf?(sample: Sample): ManifestLine[]
}

export class Source {
  readonly path: string
  readonly #isFile: boolean
  readonly #keys = new Map<string, Promise<ReadonlySet<string>>>()
  /** Fields that were looked for. */
  readonly #asked = new Set<string>()

  private constructor(path: string, isFile: boolean) {
    this.path = path
    this.#isFile = isFile
  }

  /** @throws {DataError} for an archive: it is refused rather than unpacked, since names in it may lead anywhere. */
  static async open(path: string): Promise<Source> {
    const status = await stat(path).catch(asFileError('Reading', path))
    if (!status.isFile() && !status.isDirectory()) throw new DataError(`${path} is neither a file nor a folder`)
    if (status.isFile() && isArchive(await readStart(path, 512))) {
      throw new DataError(`${path} is an archive`, {
        detail: { path },
        hint: `Unpack it first, for instance: unzip "${path}" -d data, and import the folder.`,
      })
    }
    return new Source(path, status.isFile())
  }

  /** SOURCE itself, or the folder that holds it. */
  get folder(): string {
    return this.#isFile ? dirname(this.path) : this.path
  }

  /** SOURCE when it is a file, else what lies in its folder `below`: those with one of the extensions, by name. */
  async files(extensions: readonly string[], below = ''): Promise<string[]> {
    if (this.#isFile) return below === '' && extensions.includes(extname(this.path).toLowerCase()) ? [this.path] : []
    const folder = join(this.path, below)
    const entries = await readdir(folder, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return []
      throw fileError(error, 'Reading', folder)
    })
    const named = entries.filter(
      ({ name }) => !name.startsWith('.') && extensions.includes(extname(name).toLowerCase()),
    )
    // A link may be to a file; a pipe would block for ever.
    const isFile = async (path: string) => (await stat(path).catch(() => undefined))?.isFile() === true
    const found: string[] = []
    for (const entry of named) {
      const path = join(folder, entry.name)
      if (entry.isFile() || (entry.isSymbolicLink() && (await isFile(path)))) found.push(path)
    }
    return found.sort()
  }

  /** Those files whose first record has all of `present` and none of `absent`. */
  async filesWith(
    extensions: readonly string[],
    present: readonly string[],
    absent: readonly string[] = [],
    below = '',
  ): Promise<string[]> {
    for (const key of present) this.#asked.add(key)
    const found: string[] = []
    for (const file of await this.files(extensions, below)) {
      const keys = await this.#keysOf(file)
      if (present.every((key) => keys.has(key)) && !absent.some((key) => keys.has(key))) found.push(file)
    }
    return found
  }

  /** Files like those that are read, beside them, that nothing was recognised in. */
  async unread(files: readonly string[]): Promise<string[]> {
    if (this.#isFile) return []
    const extensions = [...new Set(files.map((file) => extname(file).toLowerCase()))]
    const below = [...new Set(files.map((file) => relative(this.path, dirname(file))))]
    // A folder for each record is a layout of its own.
    if (below.length > 1) return []
    return (await this.files(extensions, below[0])).filter((file) => !files.includes(file))
  }

  /** What lies there instead of what was looked for, for a message: the fields of a file that was looked into. */
  async describe(): Promise<string> {
    for (const [file, keys] of this.#keys) {
      const names = [...(await keys)]
      if (names.length === 0) {
        for await (const { line, value } of readRows(file)) {
          if (value instanceof LeftOut) return `; ${basename(file)}:${line}: ${value.message}`
          break
        }
        continue
      }
      const more = names.length > 12 ? `, and ${names.length - 12} more` : ''
      const shown = names.slice(0, 12).map((name) => name.slice(0, 40))
      const others = shown.filter((name) => !this.#asked.has(name))
      const meant = [...this.#asked].filter((key) => !names.includes(key)).find((key) => nearest(key, others))
      const advice = meant ? `; did you mean ${meant} by "${nearest(meant, others)}"?` : ''
      return `; the records of ${basename(file)} have ${shown.join(', ')}${more}${advice}`
    }
    return ''
  }

  #keysOf(file: string): Promise<ReadonlySet<string>> {
    const known = this.#keys.get(file) ?? firstKeys(file)
    this.#keys.set(file, known)
    return known
  }
}

/** One odd record at the start must not hide what a file is. */
const sampledRecords = 20

/** The keys of the first records; what damages the file before their end surfaces here. */
async function firstKeys(file: string): Promise<ReadonlySet<string>> {
  const keys = new Set<string>()
  if ((await stat(file)).size === 0) return keys
  let seen = 0
  for await (const { value } of readRows(file)) {
    if (value !== null && typeof value === 'object' && !(value instanceof LeftOut)) {
      for (const key of Object.keys(value)) keys.add(key)
    }
    seen += 1
    if (seen === sampledRecords) break
  }
  return keys
}

/** The one layout that SOURCE has, or the one that was asked for. */
export async function detectLayout(
  kind: Kind,
  source: Source,
  wanted: string | undefined,
): Promise<{ layout: Layout; files: string[] }> {
  const names = kind.layouts.map(({ name }) => name)
  if (wanted !== undefined && !names.includes(wanted)) {
    throw new ArgumentError(`${kind.name} has no layout '${wanted}'`, { hint: `Its layouts: ${names.join(', ')}.` })
  }
  const found: { layout: Layout; files: string[] }[] = []
  for (const layout of kind.layouts) {
    if (wanted !== undefined && layout.name !== wanted) continue
    const files = await layout.find(source)
    if (files.length > 0) found.push({ layout, files })
  }
  if (found.length === 1) return found[0]
  if (found.length > 1) {
    const which = found.map(({ layout, files }) => `${layout.name} (${basename(files[0])})`)
    throw new DataError(`${source.path} holds more than one layout of ${kind.name}: ${which.join(', ')}`, {
      detail: { path: source.path, layouts: found.map(({ layout }) => layout.name) },
      hint: 'Choose one with --layout, or name its file as SOURCE.',
    })
  }
  const seen = await source.describe()
  const looks = kind.layouts.map(({ name, looksLike }) => `${name}: ${looksLike}`)
  throw new DataError(`${source.path} holds nothing that looks like ${kind.name}${seen}`, {
    detail: { path: source.path },
    hint: `Expected one of\n  ${looks.join('\n  ')}`,
  })
}

export async function* readAll(files: readonly string[]): AsyncGenerator<Row> {
  const inOrder = [...files].sort((a, b) => splitRank(splitOf(a)) - splitRank(splitOf(b)))
  for (const file of inOrder) yield* readRows(file)
}

/** Training data comes first and test data last, in files and in tables. */
export function splitRank(split: string | undefined): number {
  const rank = ['train', 'validation', undefined, 'test'].indexOf(split)
  return rank < 0 ? 2 : rank
}

/** The split that a file's name tells, in one spelling: `validate.json` and `val.json` are `validation`. */
export function splitOf(file: string): string | undefined {
  const [, word] = /(?:^|[^a-z])(train|valid|val|dev|test)(?:ing|ation|ate|set)?(?![a-z])/i.exec(basename(file)) ?? []
  return word === undefined ? undefined : splitName(word)
}

/** One spelling for the usual names; others stay as they are. */
export function splitName(name: string): string {
  const word = name.trim().toLowerCase()
  if (/^(val|valid|validate|validation|dev)$/.test(word)) return 'validation'
  if (/^(train|training|trainset)$/.test(word)) return 'train'
  return /^(test|testing|testset)$/.test(word) ? 'test' : name.trim()
}

/** For records that belong to no split. */
export const noSplit = 'all'

/** Names of lists that say what lies in them, not which split it is. */
const plainLists = new Set(['data', 'records', 'rows', 'samples', 'items', 'examples', 'annotations', 'questions'])

/**
 * The split of a record: what it says itself, else the name of the list it lies in, else what the file's name tells. A list
 * may be called after anything, so a file's name is believed before a list's that is no usual split.
 */
export function splitFrom(fields: Fields, { file, group }: Row, otherwise = noSplit): string {
  const said = fields.optional('split')
  const key = group?.trim() || undefined
  if (group !== undefined && key === undefined) fields.note('split_key_blank')
  const named = key === undefined || plainLists.has(key.toLowerCase()) ? undefined : splitName(key)
  if (said !== undefined && named !== undefined && splitName(said) !== named) fields.note('split_key_differs')
  if (said !== undefined) return splitName(said)
  return named !== undefined && isUsual(named) ? named : (splitOf(file) ?? named ?? otherwise)
}

const isUsual = (split: string): boolean => split === 'train' || split === 'validation' || split === 'test'

/** `file:index`, the name of what a record holds without a name of its own. */
export const placeOf = ({ file, index }: Row): string => `${basename(file)}:${index}`

export async function parquetFiles(source: Source, columns: readonly string[]): Promise<string[]> {
  const top = await source.filesWith(['.parquet'], columns)
  return top.length > 0 ? top : source.filesWith(['.parquet'], columns, [], 'data')
}

function isArchive(start: Buffer): boolean {
  const signatures = ['PK\x03\x04', 'PK\x05\x06', '\x1f\x8b', '7z\xbc\xaf', '\xfd7zXZ', 'BZh', 'Rar!']
  const text = start.toString('latin1')
  return signatures.some((signature) => text.startsWith(signature)) || text.slice(257, 262) === 'ustar'
}
