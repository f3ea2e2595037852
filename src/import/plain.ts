/** Questions of one's own, as JSON Lines or CSV. Texts stay as they are written. */
import { basename, extname } from 'node:path'
import { allImages, oneExchange, oneQuestion, readTurns, type Turn } from './conversation.js'
import { type Draft, type ImageSource, LeftOut, type Row } from './draft.js'
import type { Fields } from './fields.js'
import { imageSource, imagesOf } from './images-of.js'
import { type Kind, type Layout, placeOf, type Source, splitFrom } from './source.js'

const known =
  'id dataset split task image images image_path question prompt answer answer_type answerType language meta'.split(' ')

/** Fields that may hold question and answer as messages. */
const conversations = ['messages', 'conversations']

type Images = (fields: Fields, row: Row) => ImageSource[]

function convert(fields: Fields, row: Row, imagesFrom: Images): Draft {
  const meta = fields.get('meta') ?? {}
  if (typeof meta !== 'object' || Array.isArray(meta)) throw new LeftOut('wrong_type', 'meta: expected an object')
  const task = fields.optional('task') ?? 'vqa'
  if (task !== 'vqa' && task !== 'report')
    throw new LeftOut('wrong_type', `task: expected vqa or report, found ${JSON.stringify(task)}`)
  const { used, system, question, answer } = asked(fields, row)
  return {
    id: fields.has('id') ? fields.id('id') : (row.key ?? `${basename(row.file, extname(row.file))}-${row.index}`),
    split: splitFrom(fields, row),
    task,
    images: allImages(question, imagesFrom(fields, row)),
    language: fields.optional('language') ?? 'en',
    question: question.text,
    answer,
    closed: fields.closed(fields.has('answerType') ? 'answerType' : 'answer_type'),
    meta: { ...fields.rest([...known, used]), ...(system !== undefined && { system }), ...meta },
  }
}

interface Asked {
  /** The field that was read as messages, else the one of the question. */
  used: string
  system?: string
  question: Turn
  answer: string
}

/** Question and answer: fields of their own, or one conversation. */
function asked(fields: Fields, row: Row): Asked {
  const name = placeOf(row)
  const note = (kind: string): void => fields.note(kind)
  const chat = conversations.find((key) => fields.has(key))
  if (chat !== undefined && !fields.has('question') && !fields.has('prompt')) {
    const { question, answer, system } = oneExchange(
      readTurns(fields.get(chat), { key: chat, name }, 'user', note),
      chat,
    )
    if (system !== undefined) note('system_prompt_in_meta')
    if (question.text.trim() === '' || answer.text.trim() === '')
      throw new LeftOut('empty_text', `${chat} has an empty text`)
    return { used: chat, system, question, answer: answer.text }
  }
  const key = fields.key('question', 'prompt')
  const value = fields.get(key)
  const answer = fields.verbatim('answer')
  if (value !== null && typeof value === 'object' && !ArrayBuffer.isView(value)) {
    const { question, system } = oneQuestion(readTurns(value, { key, name }, 'user', note), key)
    if (question.text.trim() === '') throw new LeftOut('empty_text', `${key} is empty`)
    if (system !== undefined) note('system_prompt_in_meta')
    return { used: key, system, question, answer }
  }
  return { used: key, question: { role: 'user', text: fields.verbatim(key), images: [] }, answer }
}

/** Several images of a cell are separated by `;` or `|`; a data URI holds a `;` of its own. */
const cellImages: Images = (fields, row) => {
  const key = ['images', 'image', 'image_path'].find((name) => fields.optional(name) !== undefined)
  const cell = key === undefined ? '' : (fields.optional(key) ?? '')
  const parts = cell.split(/data:/i.test(cell) ? /[;|](?=\s*data:)|\|/i : /[;|]/).map((part) => part.trim())
  return parts
    .filter((part) => part !== '')
    .map((part, at) => imageSource(part, key ?? '', `${placeOf(row)}#${key}${at}`))
}

/** The one layout of a file of one's own. */
function ownKind(name: string, files: string, extensions: string[], forms: string[][], images: Images): Kind {
  const layout: Layout = {
    name,
    looksLike: `${files} with question, answer, image or images`,
    imageFolders: ['', 'images'],
    async find(source: Source) {
      const found = new Set<string>()
      for (const form of forms) {
        for (const file of await source.filesWith(extensions, form, ['rejected', 'rejected_conversations']))
          found.add(file)
      }
      return [...found].sort()
    },
    convert: (fields, row) => convert(fields, row, images),
  }
  return { name, licence: 'Data of your own: write its terms here.', layouts: [layout] }
}

const texts = [
  ['question', 'answer'],
  ['prompt', 'answer'],
]

/** Samples of our own name images by objects. */
export const jsonl = ownKind(
  'jsonl',
  '*.jsonl (or a list in *.json)',
  ['.jsonl', '.ndjson', '.json'],
  [...texts, ...conversations.map((key) => [key])],
  (fields, row) => imagesOf(fields, placeOf(row)),
)

export const csv = ownKind('csv', '*.csv or *.tsv', ['.csv', '.tsv'], texts, cellImages)
