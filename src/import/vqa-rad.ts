/** VQA-RAD: the public release, the MEVF split, LLaVA-style conversations, and the parquet copies on the hub. */
import { basename } from 'node:path'
import { readTurns } from './conversation.js'
import { type Draft, type ImageSource, LeftOut, type Row } from './draft.js'
import type { Fields } from './fields.js'
import { type Kind, noSplit, type Source, splitOf } from './source.js'

const imageFolders = ['VQA_RAD Image Folder', 'images', 'imgs', '']

const answered = (fields: Fields): Pick<Draft, 'question' | 'answer' | 'closed' | 'task' | 'language'> => ({
  task: 'vqa',
  language: 'en',
  question: fields.text('question'),
  answer: fields.answer(),
  closed: fields.closed(),
})

/** `test_freeform` is a freeform question of the test set. */
function convertRaw(fields: Fields): Draft {
  const phrase = fields.text('phrase_type')
  const test = phrase.startsWith('test_')
  const optional = ['image_organ', 'question_type', 'question_relation', 'question_rephrase', 'question_frame']
  const extra = ['qid_linked_id', 'evaluation', 'image_case_url']
  return {
    id: `vqa-rad-${fields.id('qid')}`,
    split: test ? 'test' : 'train',
    images: [{ name: fields.text('image_name') }],
    ...answered(fields),
    meta: { phrase_type: test ? phrase.slice('test_'.length) : phrase, ...present(fields, [...optional, ...extra]) },
  }
}

function convertMevf(fields: Fields, { file }: Row): Draft {
  return {
    id: `vqa-rad-mevf-${fields.id('qid')}`,
    split: splitOf(file) ?? noSplit,
    images: [{ name: fields.text('image_name') }],
    ...answered(fields),
    meta: { phrase_type: fields.text('phrase_type'), ...present(fields, ['image_organ', 'question_type']) },
  }
}

function convertLlava(fields: Fields, { file }: Row): Draft {
  const split = splitOf(file) ?? noSplit
  // The scorer of LLaVA-Med reads the misspelt key too.
  const key = fields.key('conversations', 'conversatons')
  return {
    id: `vqa-rad-${split}-${fields.id('id', 'question_id')}`,
    split,
    task: 'vqa',
    language: 'en',
    images: [{ name: fields.text('image') }],
    ...readTurns(fields.get(key), key, (kind) => fields.note(kind)),
    closed: fields.closed(),
    meta: {},
  }
}

/** These copies have neither ids nor kinds of questions, and lower-cased answers. */
function convertParquet(fields: Fields, { file, index }: Row): Draft {
  const split = splitOf(file) ?? noSplit
  return {
    id: `vqa-rad-${split}-${basename(file, '.parquet')}-${index}`,
    split,
    images: [embeddedImage(fields.get('image'), `${basename(file)}:${index}`)],
    ...answered(fields),
    meta: {},
  }
}

/** The hub's image column: the file's bytes and perhaps a name, or a name alone. */
export function embeddedImage(value: unknown, fallback: string): ImageSource {
  const { bytes, path } = (value ?? {}) as { bytes?: unknown; path?: unknown }
  const name = typeof path === 'string' && path !== '' ? path : fallback
  if (bytes instanceof Uint8Array && bytes.length > 0) return { name, bytes }
  if (name !== fallback) return { name }
  throw new LeftOut('no_image', 'image has neither bytes nor a path')
}

function present(fields: Fields, keys: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    keys.flatMap((key) => {
      const text = fields.optional(key)
      return text === undefined ? [] : [[key, text]]
    }),
  )
}

export async function parquetFiles(source: Source, columns: readonly string[]): Promise<string[]> {
  const top = await source.filesWith(['.parquet'], columns)
  return top.length > 0 ? top : source.filesWith(['.parquet'], columns, [], 'data')
}

export const vqaRad: Kind = {
  name: 'vqa-rad',
  licence: `VQA-RAD: CC0 1.0 (https://osf.io/89kps). Images from MedPix (National Library of Medicine).
Please cite: Lau, Gayen, Ben Abacha, Demner-Fushman: A dataset of clinically generated visual questions and answers about
radiology images. Scientific Data 5:180251 (2018).`,
  layouts: [
    {
      name: 'raw',
      looksLike: '"VQA_RAD Dataset Public.json", a list with image_name, phrase_type and qid_linked_id',
      find: (source) => source.filesWith(['.json'], ['image_name', 'phrase_type', 'qid_linked_id']),
      imageFolders,
      convert: convertRaw,
    },
    {
      name: 'mevf',
      looksLike: 'trainset.json and testset.json, lists with image_name and phrase_type',
      find: (source) => source.filesWith(['.json'], ['image_name', 'phrase_type'], ['qid_linked_id']),
      imageFolders,
      convert: convertMevf,
    },
    {
      name: 'llava',
      looksLike: 'train.json and test.json, lists with image and conversations',
      find: async (source) => [
        ...(await source.filesWith(['.json', '.jsonl'], ['image', 'conversations'], ['rejected_conversations'])),
        ...(await source.filesWith(['.json', '.jsonl'], ['image', 'conversatons'], ['rejected_conversations'])),
      ],
      imageFolders,
      convert: convertLlava,
    },
    {
      name: 'parquet',
      looksLike: 'train-*.parquet and test-*.parquet with image, question and answer, also in data/',
      find: (source) => parquetFiles(source, ['image', 'question', 'answer']),
      imageFolders,
      convert: convertParquet,
    },
  ],
}
