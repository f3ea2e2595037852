/** VQA-RAD: the public release, the MEVF split, LLaVA-style conversations, and the parquet copies on the hub. */
import { basename } from 'node:path'
import type { Draft, Row } from './draft.js'
import type { Fields } from './fields.js'
import { imageSource } from './images-of.js'
import { tidyExchange } from './preference-sets.js'
import { type Kind, parquetFiles, placeOf, splitFrom, splitName } from './source.js'

const imageFolders = ['VQA_RAD Image Folder', 'images', 'imgs', '']

const answered = (fields: Fields): Pick<Draft, 'question' | 'answer' | 'closed' | 'task' | 'language'> => ({
  task: 'vqa',
  language: 'en',
  question: fields.text('question'),
  answer: fields.answer(),
  closed: fields.closed(),
})

/** `test_freeform` is a freeform question of the test set. */
function convertRaw(fields: Fields, { group }: Row): Draft {
  const phrase = fields.text('phrase_type')
  const test = phrase.startsWith('test_')
  if (group !== undefined && splitName(group) !== (test ? 'test' : 'train')) fields.note('split_key_differs')
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

function convertMevf(fields: Fields, row: Row): Draft {
  return {
    id: `vqa-rad-mevf-${fields.id('qid')}`,
    split: splitFrom(fields, row),
    images: [{ name: fields.text('image_name') }],
    ...answered(fields),
    meta: { phrase_type: fields.text('phrase_type'), ...present(fields, ['image_organ', 'question_type']) },
  }
}

function convertLlava(fields: Fields, row: Row): Draft {
  const split = splitFrom(fields, row)
  // The scorer of LLaVA-Med reads the misspelt key too.
  const key = fields.key('conversations', 'conversatons')
  return {
    id: `vqa-rad-${split}-${fields.id('id', 'question_id')}`,
    split,
    task: 'vqa',
    language: 'en',
    ...tidyExchange(fields, key, row),
    closed: fields.closed(),
    meta: {},
  }
}

/** These copies have neither ids nor kinds of questions, and lower-cased answers. */
function convertParquet(fields: Fields, row: Row): Draft {
  const split = splitFrom(fields, row)
  return {
    id: `vqa-rad-${split}-${basename(row.file, '.parquet')}-${row.index}`,
    split,
    images: [imageSource(fields.get('image') ?? {}, 'image', placeOf(row))],
    ...answered(fields),
    meta: {},
  }
}

function present(fields: Fields, keys: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    keys.flatMap((key) => {
      const text = fields.optional(key)
      return text === undefined ? [] : [[key, text]]
    }),
  )
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
