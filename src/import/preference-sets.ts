/** Published preference sets: MMedPO, RRPO and records with inline tags, TRL. Each record becomes a pair. */
import { basename, extname } from 'node:path'
import { readTurns, withoutPlaceholder } from './conversation.js'
import { type Draft, type ImageSource, LeftOut, type Preference, type Row } from './draft.js'
import { Fields, kindOf, type Notes } from './fields.js'
import { type Kind, noSplit, type Source, splitName, splitOf } from './source.js'
import { embeddedImage, parquetFiles } from './vqa-rad.js'

const extensions = ['.json', '.jsonl']
const imageFolders = ['images', 'imgs', 'VQA_RAD Image Folder', '']
const unknownLicence = `The licence of these pairs and of their images is that of where they came from; what lay beside them as
README or LICENSE is in the folder source/.`

const stem = (file: string): string => basename(file, extname(file))

function splitFrom(fields: Fields, { file, group }: Row): string {
  return splitName(fields.optional('split') ?? group ?? splitOf(file) ?? noSplit)
}

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

/** Preferred: the terse reference. Rejected: a long hallucinated text. The score weighs the pair. */
function convertMMedPO(fields: Fields, row: Row): Draft {
  const note: Notes = (kind) => fields.note(kind)
  const chosen = readTurns(fields.get('conversations'), 'conversations', note)
  const rejected = readTurns(fields.get('rejected_conversations'), 'rejected_conversations', note)
  if (chosen.question !== rejected.question) note('questions_differ')
  const weight = fields.number('weighted_score')
  if (weight !== undefined && !(weight > 0)) note('score_not_positive')
  return {
    id: `mmedpo-${stem(row.file)}-${fields.id('id')}`,
    split: row.group === undefined ? (splitOf(row.file) ?? 'train') : splitName(row.group),
    task: 'vqa',
    language: 'en',
    ...chosen,
    closed: fields.closed(),
    images: imagesOf(fields),
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
  const side = (clean: string, masked: string): string =>
    fields.has(masked) ? fields.text(masked) : fields.text(clean)
  return {
    ...common('rrpo', fields, row),
    question: withoutPlaceholder(fields.text('question')),
    answer: fields.text('answer'),
    images: imagesOf(fields),
    preference: {
      chosen: side('answer', 'answer_masked'),
      rejected: side('pred', 'pred_masked'),
      origin: 'rrpo',
      provenance: {},
    },
  }
}

/** `{id, prompt, chosen, rejected, image_path, …}` with `<mask>` in the texts: answers of a model, none a reference. */
function convertInline(fields: Fields, row: Row): Draft {
  const chosen = fields.text('chosen')
  const known = [
    'id',
    'prompt',
    'question',
    'chosen',
    'rejected',
    'image_path',
    'image',
    'images',
    'rejected_image_path',
  ]
  const corrupted = fields.optional('rejected_image_path')
  return {
    ...common('rrpo', fields, row),
    pairOnly: true,
    question: withoutPlaceholder(fields.text('prompt', 'question')),
    answer: chosen,
    images: imagesOf(fields),
    preference: {
      chosen,
      rejected: fields.text('rejected'),
      origin: 'inline-tags',
      provenance: fields.rest(known),
      ...(corrupted !== undefined && { corrupted: [{ name: corrupted }] }),
    },
  }
}

/** TRL's preference format: prompts and answers as texts or as messages, the prompt perhaps only inside the answers. */
function convertTrl(fields: Fields, row: Row): Draft {
  const note: Notes = (kind) => fields.note(kind)
  const prompt = fields.has('prompt') ? readMessages(fields.get('prompt'), 'prompt', note) : []
  const chosen = readMessages(fields.get('chosen'), 'chosen', note)
  const rejected = readMessages(fields.get('rejected'), 'rejected', note)
  const asked = prompt.length > 0 ? prompt : chosen.slice(0, -1)
  const users = asked.filter(({ role }) => role === 'user')
  if (users.length !== 1 || asked.some(({ role }) => role === 'assistant')) {
    throw new LeftOut('multi_turn', `the prompt has ${asked.length} messages, expected one question`)
  }
  if (prompt.length === 0 && JSON.stringify(asked) !== JSON.stringify(rejected.slice(0, -1))) note('questions_differ')
  const system = asked.find(({ role }) => role === 'system')?.text
  if (system !== undefined) note('system_prompt_in_provenance')
  const preference: Preference = {
    chosen: chosen.at(-1)?.text ?? '',
    rejected: rejected.at(-1)?.text ?? '',
    origin: 'trl',
    provenance: {
      ...fields.rest(['id', 'prompt', 'chosen', 'rejected', 'image', 'images']),
      ...(system && { system }),
    },
  }
  return {
    ...common('trl', fields, row),
    pairOnly: true,
    question: withoutPlaceholder(users[0].text),
    answer: preference.chosen,
    images: imagesOf(fields, `${basename(row.file)}:${row.index}`),
    preference,
  }
}

interface Message {
  role: string
  text: string
}

/** A text is one message of a user; the caller takes the last of an answer whatever its role. */
function readMessages(value: unknown, key: string, note: Notes): Message[] {
  if (typeof value === 'string') return [{ role: 'user', text: value.trim() }]
  if (!Array.isArray(value) || value.length === 0) {
    throw new LeftOut(
      value === undefined ? 'missing_field' : 'wrong_type',
      `${key}: expected text or messages, found ${kindOf(value)}`,
    )
  }
  return value.map((message) => {
    const fields = new Fields(message, note)
    return { role: fields.text('role'), text: contentText(fields.get('content'), key) }
  })
}

/** Text, or parts of which only texts are read: images stand in a field of their own. */
function contentText(content: unknown, key: string): string {
  if (typeof content === 'string') return content.trim()
  if (!Array.isArray(content)) throw new LeftOut('wrong_type', `${key}: content is ${kindOf(content)}`)
  const texts = content.map((part) => (part as { text?: unknown } | null)?.text)
  return texts
    .filter((text) => typeof text === 'string')
    .join(' ')
    .trim()
}

/** Ids of a set count within its file. */
function recordId(kind: string, fields: Fields, { file, index }: Row): string {
  return `${kind}-${stem(file)}-${fields.has('id') ? fields.id('id') : index}`
}

/** A path, several, or what the hub's image column holds. */
export function imagesOf(fields: Fields, place = ''): ImageSource[] {
  const key = ['images', 'image', 'image_path', 'image_paths', 'image_name'].find((name) => fields.has(name))
  if (key === undefined) return []
  const value = fields.get(key)
  return (Array.isArray(value) ? value : [value]).map((item, index) => {
    if (typeof item === 'string' && item !== '') return { name: item }
    if (item !== null && typeof item === 'object') return embeddedImage(item, `${place}#${key}${index}`)
    throw new LeftOut('wrong_type', `${key}: expected a path, found ${kindOf(item)}`)
  })
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
  const texts = await source.filesWith(extensions, ['chosen', 'rejected'])
  return texts.length > 0 ? texts : parquetFiles(source, ['chosen', 'rejected'])
}

export const trl: Kind = {
  name: 'trl',
  licence: unknownLicence,
  layouts: [
    {
      name: 'preference',
      looksLike: 'JSON, JSON Lines or parquet with chosen and rejected, as texts or messages, and prompt and images',
      find: trlFiles,
      imageFolders,
      convert: convertTrl,
    },
  ],
}
