/** Published preference sets: MMedPO, RRPO and records with inline tags, TRL. Each record becomes a pair. */
import { basename, extname } from 'node:path'
import { allImages, oneExchange, oneQuestion, readTurns, refuseImages, type Turn } from './conversation.js'
import { type Draft, LeftOut, type Preference, type Row } from './draft.js'
import { type Fields, type Notes, tidy, trimmed } from './fields.js'
import { imagesOf } from './images-of.js'
import { withoutMarks } from './marks.js'
import { type Kind, parquetFiles, placeOf, type Source, splitFrom } from './source.js'

const extensions = ['.json', '.jsonl']
const imageFolders = ['images', 'imgs', 'VQA_RAD Image Folder', '']
const unknownLicence = `The licence of these pairs and of their images is that of where they came from; what lay beside them as
README or LICENSE is in the folder source/.`

const stem = (file: string): string => basename(file, extname(file))

/** What the layouts say alike of a pair about images. */
function common(
  kind: string,
  fields: Fields,
  row: Row,
): Pick<Draft, 'id' | 'split' | 'task' | 'language' | 'closed' | 'meta'> {
  return {
    id: recordId(kind, fields, row),
    split: splitFrom(fields, row),
    task: 'vqa',
    language: fields.optional('language') ?? 'en',
    closed: fields.closed(),
    meta: {},
  }
}

/** One question and one answer, both on one line. */
export function tidyExchange(fields: Fields, key: string, row: Row): Pick<Draft, 'question' | 'answer' | 'images'> {
  const note: Notes = (kind) => fields.note(kind)
  const turns = readTurns(fields.get(key), { key, name: placeOf(row) }, 'user', note)
  const { question, answer, system } = oneExchange(turns, key)
  if (system !== undefined) note('system_prompt_dropped')
  const images = allImages(question, imagesOf(fields, placeOf(row)))
  const asked = tidy(withoutMarks(question.text, images.length, note), note)
  if (asked === '') throw new LeftOut('empty_text', `${key}: the question is empty`)
  const said = tidy(answer.text, note)
  if (said === '') throw new LeftOut('empty_text', `${key}: the answer is empty`)
  return { question: asked, answer: said, images }
}

/** Preferred: the terse reference. Rejected: a long hallucinated text. The score weighs the pair. */
function convertMMedPO(fields: Fields, row: Row): Draft {
  const note: Notes = (kind) => fields.note(kind)
  const chosen = tidyExchange(fields, 'conversations', row)
  const rejected = tidyExchange(fields, 'rejected_conversations', row)
  if (chosen.question !== rejected.question) note('questions_differ')
  const weight = fields.number('weighted_score')
  if (weight !== undefined && !(weight > 0)) note('score_not_positive')
  return {
    id: `mmedpo-${stem(row.file)}-${fields.id('id')}`,
    split: splitFrom(fields, row, 'train'),
    task: 'vqa',
    language: 'en',
    ...chosen,
    closed: fields.closed(),
    meta: {},
    preference: {
      chosen: chosen.answer,
      rejected: rejected.answer,
      origin: 'mmedpo',
      ...(weight !== undefined && weight > 0 && { weight }),
      provenance: { score: weight ?? null },
    },
  }
}

/** `{question, answer, pred, answer_masked, pred_masked}`: the tags mark what differs, the clean texts are the answers. */
function convertRrpo(fields: Fields, row: Row): Draft {
  const side = (clean: string, masked: string): string => {
    if (!fields.has(masked)) return fields.text(clean)
    const text = fields.text(masked)
    if (withoutTags(text) !== withoutTags(fields.text(clean))) fields.note('masked_text_differs')
    return text
  }
  return {
    ...common('rrpo', fields, row),
    question: fields.text('question'),
    answer: fields.text('answer'),
    images: imagesOf(fields, placeOf(row)),
    preference: {
      chosen: side('answer', 'answer_masked'),
      rejected: side('pred', 'pred_masked'),
      origin: 'rrpo',
      provenance: {},
    },
  }
}

const withoutTags = (text: string): string => text.replace(/<\/?mask>|\s/gi, '')

/** `{id, prompt, chosen, rejected, image_path, …}` with `<mask>` in the texts: answers of a model, none a reference. */
function convertInline(fields: Fields, row: Row): Draft {
  const chosen = fields.text('chosen')
  const known = [
    'id',
    'prompt',
    'question',
    'chosen',
    'rejected',
    'rejected_image_path',
    'image_path',
    'image',
    'images',
  ]
  const corrupted = fields.optional('rejected_image_path')
  return {
    ...common('rrpo', fields, row),
    pairOnly: true,
    question: fields.text('prompt', 'question'),
    answer: chosen,
    images: imagesOf(fields, placeOf(row)),
    preference: {
      chosen,
      rejected: fields.text('rejected'),
      origin: 'inline-tags',
      provenance: fields.rest(known),
      ...(corrupted !== undefined && { corrupted: [{ name: corrupted }] }),
    },
  }
}

/** Fields that a preference record may have for its question; some hold it inside the answers instead. */
const questionFields = ['prompt', 'question', 'messages', 'conversations']

/** The answers of `{chosen, rejected}`, or ms-swift's: the conversation itself and what another answer would have been. */
function answerKeys(fields: Fields): [chosen: string, rejected: string] {
  if (fields.has('chosen') || !fields.has('messages')) return ['chosen', 'rejected']
  return ['messages', fields.key('rejected_messages', 'rejected_response')]
}

/** Preference records of the trainers: texts or messages, the prompt in a field of its own or inside the answers. */
function convertTrl(fields: Fields, row: Row): Draft {
  const note: Notes = (kind) => fields.note(kind)
  const turnsOf = (key: string, sender: 'user' | 'assistant'): Turn[] => {
    const turns = readTurns(fields.get(key), { key, name: placeOf(row) }, sender, note)
    return turns.map((turn) => ({ ...turn, text: trimmed(turn.text, note) }))
  }
  const [chosenKey, rejectedKey] = answerKeys(fields)
  const key = questionFields.find((name) => name !== chosenKey && fields.has(name))
  const prompt = key === undefined ? undefined : turnsOf(key, 'user')
  const chosen = oneAnswer(turnsOf(chosenKey, 'assistant'), prompt, chosenKey)
  const rejected = oneAnswer(turnsOf(rejectedKey, 'assistant'), prompt ?? chosen.before, rejectedKey)
  const asked = prompt ?? chosen.before
  if (asked.length === 0) {
    throw new LeftOut(
      'missing_field',
      `${questionFields.join(', ')}: none is there, and ${chosenKey} is no conversation`,
    )
  }
  const { question, system } = oneQuestion(asked, key ?? chosenKey)
  const isElse = (before: Turn[]): boolean => before.length > 0 && textsOf(before) !== textsOf(asked)
  if (isElse(chosen.before) || isElse(rejected.before)) note('questions_differ')
  if (system !== undefined) note('system_prompt_in_provenance')
  const preference: Preference = {
    chosen: chosen.text,
    rejected: rejected.text,
    origin: 'trl',
    provenance: {
      ...fields.rest(['id', 'image', 'images', chosenKey, rejectedKey, key ?? 'prompt']),
      ...(system && { system }),
    },
  }
  return {
    ...common('trl', fields, row),
    pairOnly: true,
    question: question.text,
    answer: preference.chosen,
    images: allImages(question, imagesOf(fields, placeOf(row))),
    preference,
  }
}

const textsOf = (turns: readonly Turn[]): string => JSON.stringify(turns.map(({ role, text }) => [role, text]))

/** The answer at the end of what a field holds, with the question before it, if that is there. */
function oneAnswer(turns: Turn[], prompt: Turn[] | undefined, key: string): { text: string; before: Turn[] } {
  const answer = turns.at(-1) as Turn
  const before = turns.slice(0, -1)
  if (answer.role !== 'assistant') throw new LeftOut('wrong_type', `${key} does not end with an answer`)
  if (prompt !== undefined && before.some(({ role }) => role === 'assistant')) {
    throw new LeftOut('multi_turn', `${key} has ${turns.length} messages, expected one answer`)
  }
  refuseImages(answer, key)
  return { text: answer.text, before }
}

/** Ids of a set count within its file. */
function recordId(kind: string, fields: Fields, { file, index }: Row): string {
  return `${kind}-${stem(file)}-${fields.has('id') ? fields.id('id') : index}`
}

export const mmedpo: Kind = {
  name: 'mmedpo',
  licence: `MMedPO pairs: Apache-2.0 (https://github.com/aiming-lab/MMedPO); questions and preferred answers come from VQA-RAD
(CC0 1.0), SLAKE (CC BY 4.0), or sets with terms of their own. Please cite: Zhu, Xia, Li, Zhu, Wang, Yao: MMedPO: Aligning
Medical Vision-Language Models with Clinical-Aware Multimodal Preference Optimization. arXiv 2412.06141.`,
  layouts: [
    {
      name: 'weighted',
      looksLike: '*_dpo_weighted.json, lists with conversations and rejected_conversations',
      find: (source) => source.filesWith(extensions, ['conversations', 'rejected_conversations']),
      imageFolders,
      convert: convertMMedPO,
    },
  ],
}

export const rrpo: Kind = {
  name: 'rrpo',
  licence: unknownLicence,
  layouts: [
    {
      name: 'masked',
      looksLike: 'JSON or JSON Lines with question, answer, pred, answer_masked and pred_masked',
      find: (source) => source.filesWith(extensions, ['answer', 'pred']),
      imageFolders,
      convert: convertRrpo,
    },
    {
      name: 'inline-tags',
      looksLike: 'JSON or JSON Lines with prompt, chosen and rejected, phrases in <mask> tags',
      find: (source) => source.filesWith(extensions, ['chosen', 'rejected'], ['pred']),
      imageFolders,
      convert: convertInline,
    },
  ],
}

async function trlFiles(source: Source): Promise<string[]> {
  const forms = [
    ['chosen', 'rejected'],
    ['messages', 'rejected_response'],
    ['messages', 'rejected_messages'],
  ]
  const found = new Set<string>()
  for (const form of forms) for (const file of await source.filesWith(extensions, form)) found.add(file)
  return found.size > 0 ? [...found].sort() : parquetFiles(source, ['chosen', 'rejected'])
}

export const trl: Kind = {
  name: 'trl',
  licence: unknownLicence,
  layouts: [
    {
      name: 'preference',
      looksLike:
        'JSON, JSON Lines or parquet with chosen and rejected, as texts or messages, and prompt and images; or messages and rejected_response',
      find: trlFiles,
      imageFolders,
      convert: convertTrl,
    },
  ],
}
