/** IU-Xray (Open-i): R2Gen's annotation, the XML of the collection, the CSV tables of its copies. One to five views. */
import { dirname } from 'node:path'
import { type ConvertSettings, type Draft, LeftOut, type Row } from './draft.js'
import { Fields, type Notes, trimmed } from './fields.js'
import { readRows } from './readers.js'
import { type Kind, noSplit, Source, splitFrom } from './source.js'
import { type Element, readXml } from './xml.js'

const defaultQuestion = (section: ConvertSettings['section']): string => {
  const parts = section === 'both' ? 'findings and impression' : section
  return `Write the ${parts} of the radiology report for this chest X-ray.`
}

/** What a report sample always is; names of patients and places read `XXXX` in about every second text. */
function report(fields: Fields, id: string, answer: string, names: string[], settings: ConvertSettings) {
  if (answer.includes('XXXX')) fields.note('redacted_XXXX')
  return {
    id: `iu-xray-${id}`,
    task: 'report' as const,
    language: 'en',
    answer,
    question: settings.question ?? defaultQuestion(settings.section),
    images: names.map((name) => ({ name })),
  }
}

/** `{"train": [...], "val": [...], "test": [...]}`; one published copy has four spaces for a key. */
function convertR2Gen(fields: Fields, row: Row, settings: ConvertSettings): Draft {
  const answer = trimmed(fields.verbatim('report'), (kind) => fields.note(kind))
  return {
    ...report(fields, fields.id('id'), answer, fields.texts('image_path'), settings),
    split: splitFrom(fields, row),
    meta: {},
  }
}

/** The section asked for, or the reason why there is nothing to learn from. */
function chosenSection(fields: Fields, { section }: ConvertSettings): string {
  const wanted = section === 'both' ? ['findings', 'impression'] : [section]
  const texts = wanted.map((name) => fields.optional(name)).filter((text) => text !== undefined)
  if (texts.length > 0) return texts.join('\n')
  throw new LeftOut('empty_text', `${wanted.join(' and ')} ${wanted.length > 1 ? 'are' : 'is'} empty`)
}

/** Sections and terms from one XML file; images are named by `parentImage` alone, never by the file's number. */
function openiRecord(root: Element): Record<string, unknown> {
  const all = (name: string, from = root): Element[] => [
    ...(from.name === name ? [from] : []),
    ...from.children.flatMap((child) => all(name, child)),
  ]
  const sections = new Map<string, string>()
  for (const { attributes, text } of all('AbstractText')) {
    const label = attributes.Label?.toLowerCase() ?? ''
    const earlier = sections.get(label)
    sections.set(label, earlier === undefined ? text.trim() : `${earlier}\n${text.trim()}`)
  }
  const terms = (name: string): string[] =>
    all('MeSH').flatMap((mesh) => all(name, mesh).map(({ text }) => text.trim()))
  return {
    ...Object.fromEntries(sections),
    uid: all('uId')[0]?.attributes.id,
    images: all('parentImage').map(({ attributes }) => `${attributes.id}.png`),
    meshMajor: terms('major'),
    meshAutomatic: terms('automatic'),
  }
}

async function* readOpeni(files: readonly string[]): AsyncGenerator<Row> {
  for (const file of files) {
    const value = await readXml(file).then(openiRecord, (error) => {
      if (error instanceof LeftOut) return error
      throw error
    })
    yield { file, line: 1, index: 0, value }
  }
}

function convertOpeni(fields: Fields, _row: Row, settings: ConvertSettings): Draft {
  const names = fields.get('images') as string[]
  return {
    ...report(fields, fields.id('uid'), chosenSection(fields, settings), names, settings),
    split: noSplit,
    meta: fields.rest(['uid', 'images']),
  }
}

/** The reports, each with its rows of the table of views. */
async function* readTables([reports, projections]: readonly string[], note: Notes): AsyncGenerator<Row> {
  const views = new Map<unknown, Record<string, unknown>[]>()
  for await (const { value } of readRows(projections)) {
    if (value instanceof LeftOut) {
      note('view_row_unreadable')
      continue
    }
    const { uid, ...view } = value as Record<string, unknown>
    views.set(uid, [...(views.get(uid) ?? []), view])
  }
  for await (const row of readRows(reports)) {
    if (row.value instanceof LeftOut) yield row
    else {
      const { uid } = row.value as Record<string, unknown>
      yield { ...row, value: { ...(row.value as object), views: views.get(uid) ?? [] } }
      views.delete(uid)
    }
  }
  for (const _ of views) note('views_without_report')
}

function convertTables(fields: Fields, row: Row, settings: ConvertSettings): Draft {
  const views = (fields.get('views') as unknown[]).map((view) => new Fields(view, (kind) => fields.note(kind)))
  const names = views.map((view) => view.text('filename'))
  const optional = ['MeSH', 'Problems', 'indication', 'comparison', 'findings', 'impression']
  return {
    ...report(fields, fields.id('uid'), chosenSection(fields, settings), names, settings),
    split: splitFrom(fields, row),
    meta: {
      ...Object.fromEntries(optional.map((key) => [key.toLowerCase(), fields.optional(key) ?? ''])),
      projections: views.map((view) => view.optional('projection') ?? null),
    },
  }
}

export const iuXray: Kind = {
  name: 'iu-xray',
  licence: `Indiana University chest X-rays (Open-i, National Library of Medicine): CC BY-NC-ND 4.0. Neither the images nor
this import of them may be passed on. Please cite: Demner-Fushman et al.: Preparing a collection of radiology examinations
for distribution and retrieval. JAMIA 23(2), 2016.`,
  layouts: [
    {
      name: 'r2gen',
      looksLike: 'annotation.json, {"train": [{id, report, image_path}], ...} with images/ beside it',
      find: (source) => source.filesWith(['.json'], ['id', 'report', 'image_path']),
      imageFolders: ['images', ''],
      convert: convertR2Gen,
    },
    {
      name: 'open-i',
      looksLike: '*.xml with eCitation, also in ecgen-radiology/',
      async find(source) {
        const top = await source.files(['.xml'])
        return top.length > 0 ? top : source.files(['.xml'], 'ecgen-radiology')
      },
      imageFolders: ['images', 'NLMCXR_png', ''],
      read: readOpeni,
      convert: convertOpeni,
    },
    {
      name: 'tables',
      looksLike: 'indiana_reports.csv and indiana_projections.csv',
      async find(source) {
        const reports = await source.filesWith(['.csv'], ['uid', 'findings', 'impression'])
        if (reports.length === 0) return []
        const beside = await Source.open(dirname(reports[0]))
        const projections = await beside.filesWith(['.csv'], ['uid', 'filename'])
        return projections.length === 0 ? [] : [reports[0], projections[0]]
      },
      imageFolders: ['images/images_normalized', 'images_normalized', 'images', ''],
      read: readTables,
      convert: convertTables,
    },
  ],
}
