/**
 * Published data sets to sample and pair records. One pass reads rows, turns them into drafts, finds and stores their
 * images, and spools the result; a second gives each record its split and writes it. Everything happens in a temporary
 * folder that takes its name when it is complete.
 */
import { readdir, realpath, rm, stat } from 'node:fs/promises'
import { join, relative, resolve, sep } from 'node:path'
import { z } from 'zod'
import { type ClosedRule, isClosed } from '../data/closed.js'
import { ignoreMissing, readTextIfThere, sha256File, writeFolderAtomic } from '../data/files.js'
import { readJsonl } from '../data/jsonl.js'
import { lockOutput } from '../data/lock.js'
import { type ImageRef, type Pair, pair as pairRecord, type Sample, sample as sampleRecord } from '../data/records.js'
import { ArgumentError, asFileError, FileError, throwIfAborted } from '../errors.js'
import { checkOptions } from '../options.js'
import { EditError } from '../pairs/index.js'
import { version } from '../version.js'
import { type ConvertSettings, type Draft, type ImageSource, LeftOut, type Row } from './draft.js'
import { Fields, type Notes } from './fields.js'
import { Ids } from './ids.js'
import { ImageStore } from './images.js'
import { iuXray } from './iu-xray.js'
import { keepLicence } from './licence.js'
import { LineWriter } from './lines.js'
import { refuseMarks, withoutEnd, withoutMarks } from './marks.js'
import { type PhantomOptions, writePhantom } from './phantom.js'
import { csv, jsonl } from './plain.js'
import { pairTexts } from './preference.js'
import { mmedpo, rrpo, trl } from './preference-sets.js'
import { type ImportReport, NoteBook, type Problem, reportName, writeReport } from './report.js'
import { importKinds, masksName } from './settings.js'
import { slake } from './slake.js'
import { detectLayout, type Kind, type Layout, readAll, Source } from './source.js'
import { assignSplit, ImageGroups, type SplitPlan } from './split.js'
import { Tally } from './tally.js'
import { vqaRad } from './vqa-rad.js'

/** How each kind of source is read. */
export const kinds: Record<Exclude<(typeof importKinds)[number], 'phantom'>, Kind> = {
  'vqa-rad': vqaRad,
  slake,
  'iu-xray': iuXray,
  mmedpo,
  rrpo,
  trl,
  jsonl,
  csv,
}

/** What is imported, and the choices a data set leaves open. */
export interface ImportOptions {
  /** One of `importKinds`. */
  kind: string
  /** File or folder; every kind but `phantom` needs it. */
  source?: string
  /** Folder to make: samples.jsonl, pairs.jsonl, images/, LICENSE.md, import.report.json. */
  out: string
  /** Needed only where SOURCE holds several layouts. */
  layout?: string
  /** Root of image names; default: SOURCE, or the folder of it. Nothing outside is read. */
  images?: string
  /** Keep records whose images are not there, with the images that are. */
  allowMissingImages?: boolean
  /** SLAKE: `en`, `zh` or `all`. */
  language?: string
  closedRule?: ClosedRule
  /** New splits such that no image is in two of them. */
  splitByImage?: SplitPlan
  /** IU-Xray: what the answer is, where the source tells the sections apart. */
  section?: ConvertSettings['section']
  /** IU-Xray: the instruction of every sample. */
  question?: string
  /** phantom: what is made. */
  phantom?: Omit<PhantomOptions, 'signal' | 'onProgress'>
  /** Replace an earlier import at `out`. */
  overwrite?: boolean
  signal?: AbortSignal
  /** Called with the records read so far. */
  onProgress?: (read: number) => void
}

const importOptions: Record<keyof ImportOptions, true> = {
  kind: true,
  source: true,
  out: true,
  layout: true,
  images: true,
  allowMissingImages: true,
  language: true,
  closedRule: true,
  splitByImage: true,
  section: true,
  question: true,
  phantom: true,
  overwrite: true,
  signal: true,
  onProgress: true,
}

/**
 * Imports a data set. Resolves with what `import.report.json` says, which also lists every record that was left out.
 * @throws {DataError} where the source as a whole cannot be read; nothing is written then.
 * @throws {LockedError} when another import writes to `out`.
 */
export async function importData(options: ImportOptions): Promise<ImportReport> {
  checkOptions('importData', options, importOptions)
  const out = resolve(options.out)
  await using _lock = await lockOutput(out, 'whole folder', options.source === undefined ? [] : [options.source])
  const fill = await (options.kind === 'phantom' ? preparePhantom(out, options) : prepareImport(out, options))
  let report: ImportReport | undefined
  await writeFolderAtomic(out, async (folder) => {
    report = await fill(folder)
  })
  return report as unknown as ImportReport
}

type Fill = (folder: string) => Promise<ImportReport>

async function prepareImport(out: string, options: ImportOptions): Promise<Fill> {
  const kind = Object.hasOwn(kinds, options.kind) ? kinds[options.kind as keyof typeof kinds] : undefined
  if (!kind) throw new ArgumentError(`There is no kind '${options.kind}'; there are ${importKinds.join(', ')}`)
  if (options.source === undefined) throw new ArgumentError(`The kind ${kind.name} needs a SOURCE to read`)
  const source = await Source.open(options.source)
  await checkTarget(out, source, options)
  const { layout, files } = await detectLayout(kind, source, options.layout)
  return (folder) => new Import(options, kind, layout, source, folder).run(files)
}

async function preparePhantom(out: string, options: ImportOptions): Promise<Fill> {
  const { phantom, signal, onProgress } = options
  if (!phantom) throw new ArgumentError('The kind phantom needs the number of studies and a seed')
  await checkTarget(out, undefined, options)
  return (folder) => writePhantom(folder, { ...phantom, signal, onProgress })
}

/** `--overwrite` replaces an import and never anything else; one that took no record is replaced unasked: its own hint says to try again. */
async function checkTarget(out: string, source: Source | undefined, { overwrite }: ImportOptions): Promise<void> {
  const names = await readdir(out).catch(ignoreMissing).catch(asFileError('Reading', out))
  if (names === undefined || names.length === 0) return
  const from = source && `${await realpath(source.path)}${sep}`
  if (from?.startsWith(`${await realpath(out)}${sep}`)) throw new ArgumentError(`${out} holds the source itself`)
  const earlier = await readTextIfThere(join(out, reportName))
  if (earlier !== undefined && (overwrite || isEmpty(earlier))) return
  if (!overwrite)
    throw new FileError(`${out} exists already`, { hint: 'Use --overwrite to replace an earlier import.' })
  throw new FileError(`${out} is no earlier import, it has no ${reportName}`, {
    hint: 'Choose another folder for --out.',
  })
}

function isEmpty(report: string): boolean {
  try {
    const { samples, pairs } = (JSON.parse(report) ?? {}) as Partial<ImportReport>
    return samples === 0 && pairs === 0
  } catch {
    return false
  }
}

/** What the first pass leaves of a record. */
const spooled = z.strictObject({
  sample: sampleRecord.nullable(),
  pair: pairRecord.nullable(),
  split: z.string(),
  closed: z.boolean(),
  /** What tells its images apart: content where known, else name. */
  images: z.array(z.string()),
})

type Spooled = z.infer<typeof spooled>

class Import {
  readonly #options: ImportOptions
  readonly #kind: Kind
  readonly #layout: Layout
  readonly #source: Source
  readonly #folder: string
  readonly #settings: ConvertSettings
  readonly #rule: ClosedRule
  readonly #store: ImageStore
  readonly #groups = new ImageGroups()
  readonly #sourceTally = new Tally()
  readonly #notes = new NoteBook()
  readonly #problems: LineWriter
  readonly #spool: LineWriter
  readonly #leftOut: ImportReport['leftOut'] = {}
  readonly #ids = new Ids()
  #read = 0
  #fallback = 0
  #recordsWithout = 0

  constructor(options: ImportOptions, kind: Kind, layout: Layout, source: Source, folder: string) {
    this.#options = options
    this.#kind = kind
    this.#layout = layout
    this.#source = source
    this.#folder = folder
    const { language = 'all', section = 'findings', question } = options
    this.#settings = { language, section, question }
    this.#rule = options.closedRule ?? 'answer_type'
    const root = resolve(options.images ?? source.folder)
    this.#store = new ImageStore({ root, folders: layout.imageFolders, out: folder })
    this.#problems = new LineWriter(join(folder, 'problems.jsonl'))
    this.#spool = new LineWriter(join(folder, 'spool.jsonl'))
  }

  async run(files: readonly string[]): Promise<ImportReport> {
    await using _problems = this.#problems
    await using _spool = this.#spool
    const note: Notes = (kind) => this.#notes.add(kind, this.#show(files[0]))
    for (const file of await this.#source.unread(files)) this.#notes.add('file_not_read', this.#show(file))
    for await (const row of (this.#layout.read ?? readAll)(files, note)) {
      throwIfAborted(this.#options.signal)
      this.#read += 1
      await this.#take(row)
      this.#options.onProgress?.(this.#read)
    }
    await this.#spool.close()
    await this.#problems.close()
    return await this.#finish(files)
  }

  /** One record into the spool, or into the problems. */
  async #take(row: Row): Promise<void> {
    const place = `${this.#show(row.file)}:${row.line}`
    const note: Notes = (kind) => this.#notes.add(kind, place)
    let id: string | null = null
    try {
      for (const kind of row.notes ?? []) note(kind)
      if (row.value instanceof LeftOut) throw row.value
      const draft = withPlainTexts(this.#layout.convert(new Fields(row.value, note), row, this.#settings), note)
      id = draft.id
      const unique = this.#ids.claim(draft, row, this.#read, note)
      await this.#spool.write(await this.#resolve({ ...draft, id: unique }, row, note))
    } catch (error) {
      const { reason, message } = asLeftOut(error)
      this.#leftOut[reason] = (this.#leftOut[reason] ?? 0) + 1
      const { file, line, index, value } = row
      const record = id ?? rawId(value)
      const shown = { record: record && shorten(record), reason, message: shorten(message) }
      await this.#problems.write({ file: this.#show(file), line, index, ...shown } satisfies Problem)
    }
  }

  async #resolve(draft: Draft, row: Row, note: Notes): Promise<Spooled> {
    const { images: sources, closed: word, preference, pairOnly, ...rest } = draft
    const texts = preference && pairTexts(preference.chosen, preference.rejected, note)
    const answer = pairOnly && texts ? texts.chosen : rest.answer
    const isVqa = draft.task === 'vqa'
    const said = isVqa ? this.#said(word, note) : undefined
    const closed = isVqa && isClosed(this.#rule, answer, said)
    if (isVqa && said === undefined && this.#rule === 'answer_type') this.#fallback += 1

    const found = await Promise.all(sources.map((source) => this.#tryImage(source, note)))
    if (sources.some(({ name }, at) => name.includes('\\') && !(found[at] instanceof LeftOut)))
      note('backslash_in_path')
    const keys = found.map((image, index) => (image instanceof LeftOut ? `name:${sources[index].name}` : image.sha256))
    // Counted before anything can be left out for its images: these are the numbers that papers print.
    this.#sourceTally.add(draft.split, closed, keys)
    const images = this.#present(found, sources.length === 0)
    const complete = images.length === sources.length
    const beside = complete && images.length > 0 ? await this.#layout.beside?.(draft, this.#store, note) : undefined
    this.#groups.join(keys)

    const origin = { file: this.#show(row.file), line: row.line, index: row.index }
    const names = sources.map(({ name }) => name)
    const answerType = closed ? ('closed' as const) : ('open' as const)
    // An evaluation counts all closed rules, that of the source too.
    const own = said === undefined || said === closed ? {} : { answerType: said ? 'closed' : 'open' }
    const meta = { ...rest.meta, ...own, ...beside, importedFrom: { ...origin, split: draft.split, images: names } }
    const sample: Sample = { ...rest, dataset: this.#kind.name, images, answer, answerType, meta }
    const pair = preference &&
      texts && {
        id: draft.id,
        sampleId: draft.id,
        images,
        prompt: draft.question,
        ...texts,
        origin: preference.origin,
        ...(await this.#corrupted(preference.corrupted, images, note)),
        ...(preference.weight !== undefined && { weight: preference.weight }),
        provenance: { ...preference.provenance, importedFrom: origin, answerType },
      }
    return { sample: pairOnly ? null : sample, pair: pair ?? null, split: draft.split, closed, images: keys }
  }

  /** The source's word for a kind of question; one that is none of the two matters to the rule that asks for it. */
  #said(word: Draft['closed'], note: Notes): boolean | undefined {
    if (!(word instanceof LeftOut)) return word
    if (this.#rule === 'answer_type') throw word
    note('answer_type_unknown')
    return undefined
  }

  #tryImage(source: ImageSource, note: Notes): Promise<ImageRef | LeftOut> {
    return this.#store.take(source, 'images', note).catch((error) => asLeftOut(error))
  }

  /** The images that are there; where one is not, and that was not allowed, the reason to leave the record out. */
  #present(found: readonly (ImageRef | LeftOut)[], none: boolean): ImageRef[] {
    const gone = found.filter((image) => image instanceof LeftOut)
    const allowed = this.#options.allowMissingImages === true
    const worst = gone.find(({ reason }) => reason !== 'missing_image') ?? (allowed ? undefined : gone[0])
    if (worst) throw worst
    if (none && !allowed) throw new LeftOut('no_image', 'the record names no image')
    if (none || gone.length > 0) this.#recordsWithout += 1
    return found.filter((image): image is ImageRef => !(image instanceof LeftOut))
  }

  /** The visual pair, where the source has one; it does not say how the noise was made. */
  async #corrupted(
    sources: ImageSource[] | undefined,
    images: ImageRef[],
    note: Notes,
  ): Promise<Pick<Pair, 'corrupted'>> {
    if (!sources || sources.length !== images.length) return {}
    const found = await Promise.all(sources.map((source) => this.#tryImage(source, note)))
    if (found.some((image) => image instanceof LeftOut)) {
      note('corrupted_image_missing')
      return {}
    }
    return { corrupted: { images: found as ImageRef[], method: 'as-published', sigma: 0, seed: 0, masks: [] } }
  }

  async #finish(files: readonly string[]): Promise<ImportReport> {
    const { splitByImage: plan } = this.#options
    await using samples = new LineWriter(join(this.#folder, 'samples.jsonl'))
    await using pairs = new LineWriter(join(this.#folder, 'pairs.jsonl'))
    await using masks = this.#kind.masksOf && new LineWriter(join(this.#folder, masksName))
    const masked = new Set<string>()
    const tally = new Tally()
    const spool = join(this.#folder, 'spool.jsonl')
    if (this.#spool.count > 0) {
      for await (const { record } of readJsonl(spool, spooled)) {
        const { sample, pair, closed, images } = record
        const group = images.length > 0 ? this.#groups.root(images[0]) : (sample ?? pair)?.id
        const split = plan && group !== undefined ? assignSplit(plan, group) : record.split
        tally.add(split, closed, images)
        if (sample) await samples.write({ ...sample, split })
        if (sample && masks && !masked.has(images.join())) {
          masked.add(images.join())
          for (const line of this.#kind.masksOf?.(sample) ?? []) await masks.write(line)
        }
        if (pair) await pairs.write({ ...pair, provenance: { ...pair.provenance, split } })
      }
      await rm(spool)
    }
    await samples.close()
    await pairs.close()
    await masks?.close()
    const images = await this.#store.close()
    await keepLicence(this.#kind, this.#source.folder, this.#folder)
    const report: ImportReport = {
      format: 1,
      fireTrain: version,
      kind: this.#kind.name,
      layout: this.#layout.name,
      source: this.#source.path,
      files: await this.#describeFiles(files),
      options: this.#reportedOptions(),
      closedRule: { asked: this.#rule, fallback: this.#fallback },
      read: this.#read,
      samples: samples.count,
      pairs: pairs.count,
      counts: tally.counts(),
      sourceCounts: this.#sourceTally.counts(),
      images: { ...images, recordsWithout: this.#recordsWithout },
      leakage: { written: tally.leaks(), source: this.#sourceTally.leaks() },
      notes: this.#notes.list(),
      leftOut: this.#leftOut,
    }
    const problems = join(this.#folder, 'problems.jsonl')
    await writeReport(join(this.#folder, reportName), report, this.#problems.count > 0 ? problems : undefined)
    await rm(problems, { force: true })
    return report
  }

  #reportedOptions(): Record<string, unknown> {
    const { images, splitByImage = null, allowMissingImages = false } = this.#options
    const { question = null, ...settings } = this.#settings
    return { ...settings, question, images: images ?? null, splitByImage, allowMissingImages }
  }

  /** Of a folder of thousands of reports the list would say little. */
  async #describeFiles(files: readonly string[]): Promise<ImportReport['files']> {
    const described = files.slice(0, 100).map(async (file) => {
      return { name: this.#show(file), bytes: (await stat(file)).size, sha256: await sha256File(file) }
    })
    return Promise.all(described)
  }

  #show(file: string): string {
    return relative(this.#source.folder, file)
  }
}

function asLeftOut(error: unknown): LeftOut {
  if (error instanceof LeftOut) return error
  if (error instanceof EditError) return new LeftOut('identical_answers', error.message)
  throw error
}

/** The texts of a draft without what training puts there itself: marks of images, end tokens. */
function withPlainTexts(draft: Draft, note: Notes): Draft {
  const { preference, images } = draft
  const clean = (text: string): string => {
    refuseMarks(text)
    return withoutEnd(text, note)
  }
  return {
    ...draft,
    question: withoutEnd(withoutMarks(draft.question, images.length, note), note),
    ...(preference
      ? {
          answer: draft.pairOnly ? draft.answer : withoutEnd(draft.answer, () => {}),
          preference: { ...preference, chosen: clean(preference.chosen), rejected: clean(preference.rejected) },
        }
      : { answer: clean(draft.answer) }),
  }
}

/** What a record says may be a whole image; a report names it. */
const shorten = (text: string): string =>
  text.length > 500 ? `${text.slice(0, 500)}… (${text.length} characters)` : text

function rawId(value: unknown): string | null {
  const record = value !== null && typeof value === 'object' ? (value as Record<string, unknown>) : {}
  const id = record.id ?? record.qid ?? record.uid
  return typeof id === 'string' || typeof id === 'number' ? String(id) : null
}
