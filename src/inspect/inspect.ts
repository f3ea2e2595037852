/** Looks into record files: what kind they are, what is in them, what is wrong with them. Streams; memory is bounded. */
import { dirname, resolve } from 'node:path'
import { examineReferenced } from '../data/images.js'
import { describeIssues, type ScannedLine, scanJsonl } from '../data/jsonl.js'
import type { ImageRef } from '../data/records.js'
import { throwIfAborted } from '../errors.js'
import { checkOptions } from '../options.js'
import { filesOf, readDocument } from './files.js'
import { readImage } from './image.js'
import { type Kind, kinds, Leakage, type Place, Sheet } from './kinds.js'
import { type Example, type Inspection, Problems } from './report.js'
import { Examples, Seen } from './tally.js'

/** How thoroughly files are read. */
export interface InspectOptions {
  /** Read and hash every image that is referred to. */
  checkImages?: boolean
  /** What image paths are relative to; default: the folder of the file. */
  images?: string
  /** How many examples to keep. */
  examples?: number
  signal?: AbortSignal
  onProgress?: (records: number) => void
}

/** Lines that are tried before a file's kind is given up. */
const tried = 20

/** Inspects files, and those of folders, one after the other; images that splits share are found across them. */
export async function inspectFiles(paths: readonly string[], options: InspectOptions = {}): Promise<Inspection[]> {
  checkOptions('inspectFiles', options, {
    checkImages: true,
    images: true,
    examples: true,
    signal: true,
    onProgress: true,
  })
  const leakage = new Leakage()
  const found: Inspection[] = []
  for (const path of await filesOf(paths)) found.push(await inspect(path, leakage, options))
  return found
}

async function inspect(path: string, leakage: Leakage, options: InspectOptions): Promise<Inspection> {
  const whole = (await readDocument(path)) ?? (await readImage(path))
  if (whole) return whole
  const problems = new Problems()
  const kind = await detectKind(path)
  const sheet = new Sheet()
  const kept = new Examples<Example>(options.examples ?? 3)
  const collector = kind?.collect({ problems, leakage, sheet, kept })
  const images = options.checkImages ? new ImageCheck(options.images ?? dirname(resolve(path)), problems) : undefined
  let records = 0
  for await (const scanned of scanJsonl(path)) {
    throwIfAborted(options.signal)
    records += 1
    const record = soundRecord(scanned, kind, problems)
    if (record !== undefined && collector) {
      const place = placeOf(scanned.line, record)
      collector.add(record, place)
      await images?.check(collector.images?.(record) ?? [], place)
    }
    if (records % 1000 === 0) options.onProgress?.(records)
  }
  // Stages leave empty files where there was nothing to say.
  if (records === 0) problems.add('warning', 'the file holds no record', path)
  return {
    path,
    kind: kind?.name ?? 'unknown',
    records,
    facts: collector?.facts?.() ?? [],
    ...sheet.result(),
    examples: kept.records(),
    problems: problems.list(),
  }
}

function soundRecord(scanned: ScannedLine, kind: Kind<never> | undefined, problems: Problems): never | undefined {
  const where = `line ${scanned.line}`
  if (scanned.problem !== undefined) {
    const torn = scanned.terminated ? '' : ' (the file ends within it)'
    problems.add('error', 'the line is not JSON', `${where}: ${scanned.problem}${torn}`)
    return undefined
  }
  if (!kind) {
    problems.add('error', 'the record is of no kind that is known', where)
    return undefined
  }
  const parsed = kind.schema.safeParse(scanned.value)
  if (parsed.success) return parsed.data
  const { where: named } = placeOf(scanned.line, scanned.value)
  problems.add('error', `the line is not one of ${kind.name}`, `${named}: ${describeIssues(parsed.error.issues)}`)
  return undefined
}

function placeOf(line: number, value: unknown): Place {
  const { id, sampleId } = (value ?? {}) as { id?: unknown; sampleId?: unknown }
  const name = id ?? sampleId
  return { line, where: `line ${line}${typeof name === 'string' ? `: record ${name}` : ''}` }
}

/** The kind of the first line that is one of any. */
async function detectKind(path: string): Promise<Kind<never> | undefined> {
  let lines = 0
  for await (const scanned of scanJsonl(path)) {
    lines += 1
    const kind = scanned.problem === undefined && kinds.find(({ schema }) => schema.safeParse(scanned.value).success)
    if (kind) return kind
    if (lines === tried) break
  }
  return undefined
}

class ImageCheck {
  readonly #root: string
  readonly #problems: Problems
  readonly #checked = new Seen()

  constructor(root: string, problems: Problems) {
    this.#root = root
    this.#problems = problems
  }

  async check(images: readonly ImageRef[], { where, line }: Place): Promise<void> {
    for (const ref of images) {
      if (this.#checked.add(JSON.stringify(ref), line) !== undefined) continue
      try {
        for (const { message } of await examineReferenced(ref, this.#root)) {
          this.#problems.add('warning', 'an image may not show what it holds', `${where}: ${ref.path}: ${message}`)
        }
      } catch (error) {
        this.#problems.add('error', 'an image is missing or another one', `${where}: ${(error as Error).message}`)
      }
    }
  }
}
