/** Questions of one's own, as JSON Lines or CSV. Texts stay as they are written. */
import { basename, extname } from 'node:path'
import { type Draft, type ImageSource, LeftOut, type Row } from './draft.js'
import type { Fields } from './fields.js'
import { imagesOf } from './preference-sets.js'
import { type Kind, type Layout, noSplit, splitName, splitOf } from './source.js'

const known =
  'id dataset split task image images image_path question prompt answer answer_type answerType language meta'.split(' ')

function convert(fields: Fields, row: Row, images: ImageSource[]): Draft {
  const meta = fields.get('meta') ?? {}
  if (typeof meta !== 'object' || Array.isArray(meta)) throw new LeftOut('wrong_type', 'meta: expected an object')
  const task = fields.optional('task') ?? 'vqa'
  if (task !== 'vqa' && task !== 'report')
    throw new LeftOut('wrong_type', `task: expected vqa or report, found ${JSON.stringify(task)}`)
  return {
    id: fields.has('id') ? fields.id('id') : `${basename(row.file, extname(row.file))}-${row.index}`,
    split: splitName(fields.optional('split') ?? splitOf(row.file) ?? noSplit),
    task,
    images,
    language: fields.optional('language') ?? 'en',
    question: fields.verbatim('question', 'prompt'),
    answer: fields.verbatim('answer'),
    closed: fields.closed(fields.has('answerType') ? 'answerType' : 'answer_type'),
    meta: { ...fields.rest(known), ...meta },
  }
}

/** Several images of a cell are separated by `;` or `|`. */
function cellImages(fields: Fields): ImageSource[] {
  const cell = ['images', 'image', 'image_path'].map((key) => fields.optional(key)).find((text) => text !== undefined)
  const names = (cell ?? '').split(/[;|]/).map((name) => name.trim())
  return names.filter((name) => name !== '').map((name) => ({ name }))
}

/** The one layout of a file of one's own. */
function ownKind(name: string, files: string, extensions: string[], images: (fields: Fields) => ImageSource[]): Kind {
  const layout: Layout = {
    name,
    looksLike: `${files} with question, answer, image or images`,
    imageFolders: ['', 'images'],
    async find(source) {
      const asked = await source.filesWith(extensions, ['question', 'answer'])
      return asked.length > 0 ? asked : source.filesWith(extensions, ['prompt', 'answer'])
    },
    convert: (fields, row) => convert(fields, row, images(fields)),
  }
  return { name, licence: 'Data of your own: write its terms here.', layouts: [layout] }
}

/** Samples of our own name images by objects. */
export const jsonl = ownKind('jsonl', '*.jsonl (or a list in *.json)', ['.jsonl', '.ndjson', '.json'], (fields) =>
  imagesOf(fields),
)

export const csv = ownKind('csv', '*.csv or *.tsv', ['.csv', '.tsv'], cellImages)
