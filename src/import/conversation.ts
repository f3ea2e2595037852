/** Messages of chat formats: `{role, content}`, LLaVA's `{from, value}`, contents as texts or as parts with images. */
import { type ImageSource, LeftOut } from './draft.js'
import { Fields, kindOf, type Notes } from './fields.js'
import { imageSource } from './images-of.js'

/** One message; images that stood in its content, with `<image>` where they stood. */
export interface Turn {
  role: 'system' | 'user' | 'assistant'
  text: string
  images: ImageSource[]
}

const roles: Record<string, Turn['role']> = {
  system: 'system',
  ...{ user: 'user', human: 'user' },
  ...{ assistant: 'assistant', gpt: 'assistant', model: 'assistant', bot: 'assistant' },
}

/** Where a message stands: its field, and names for images that come as bytes. */
interface Place {
  key: string
  name: string
}

/** A list of messages, one message, or a text, which is one of `sender`. */
export function readTurns(value: unknown, place: Place, sender: 'user' | 'assistant', note: Notes): Turn[] {
  const { key } = place
  if (typeof value === 'string') return [{ role: sender, text: value, images: [] }]
  const list = Array.isArray(value) ? value : [value]
  const texts = list.filter((item) => typeof item === 'string')
  if (value === undefined || list.length === 0) {
    throw new LeftOut('missing_field', `${key}: expected text or messages, found ${kindOf(value)}`)
  }
  if (texts.length === 1 && list.length === 1) {
    note('list_of_one_text')
    return [{ role: sender, text: texts[0], images: [] }]
  }
  if (texts.length > 0) {
    const what = sender === 'assistant' ? 'one answer' : 'one question'
    throw new LeftOut('wrong_type', `${key}: expected ${what}, found a list of ${texts.length} texts`)
  }
  if (!list.every((item) => item !== null && typeof item === 'object' && !ArrayBuffer.isView(item))) {
    throw new LeftOut('wrong_type', `${key}: expected text or messages, found ${kindOf(value)}`)
  }
  return list.map((item) => readTurn(new Fields(item, note), place))
}

function readTurn(fields: Fields, place: Place): Turn {
  const { key } = place
  const sender = fields.key('role', 'from')
  const said = fields.get(sender)
  const role = typeof said === 'string' ? roles[said.trim().toLowerCase()] : undefined
  if (role === undefined) {
    throw new LeftOut(
      'wrong_type',
      `${key}: expected a message of a user, assistant or system, found ${JSON.stringify(said)}`,
    )
  }
  const content = fields.get(fields.key('content', 'value'))
  const images: ImageSource[] = []
  if (typeof content === 'string') return { role, text: content, images }
  if (!Array.isArray(content)) throw new LeftOut('wrong_type', `${key}: content is ${kindOf(content)}`)
  // Chat templates put nothing between parts either.
  const text = content.map((part) => readPart(part, place, images)).join('')
  return { role, text, images }
}

/** The text of a part; of an image `<image>`, with the image in `images` where the part names it. */
function readPart(part: unknown, { key, name }: Place, images: ImageSource[]): string {
  if (typeof part === 'string') return part
  const { type, ...rest } = (part ?? {}) as Record<string, unknown>
  const held = rest.image ?? rest.image_url ?? rest.source ?? rest.url ?? rest.path ?? rest.bytes ?? rest.base64
  const kind = String(
    type ?? (typeof rest.text === 'string' ? 'text' : held !== undefined && held !== null ? 'image' : type),
  )
  if (/^(input_|output_)?text$/.test(kind)) {
    if (typeof rest.text === 'string') return rest.text
    throw new LeftOut('wrong_type', `${key}: the text of a part is ${kindOf(rest.text)}`)
  }
  if (!/^(input_)?image(_url)?$/.test(kind)) {
    throw new LeftOut('wrong_type', `${key}: parts of the type ${JSON.stringify(type ?? null)} are not read`)
  }
  const nothing = held === undefined || held === null
  // `{"type": "image", "text": null, "image": …}` is how tables store parts.
  if (typeof rest.text === 'string' && rest.text !== '') {
    throw new LeftOut('wrong_type', `${key}: a part is an image and a text at once`)
  }
  if (!nothing) images.push(imageSource(rest.bytes || rest.path ? rest : held, key, `${name}#${key}${images.length}`))
  return '<image>'
}

/** A question with its answer, and what a system message said before. */
export interface Exchange {
  question: Turn
  answer: Turn
  system: string | undefined
}

/** The one question and the one answer of a conversation. */
export function oneExchange(turns: readonly Turn[], key: string): Exchange {
  const question = oneQuestion(turns.slice(0, -1), key, turns.length)
  const answer = turns.at(-1) as Turn
  if (answer.role !== 'assistant') throw new LeftOut('wrong_type', `${key} does not end with an answer`)
  refuseImages(answer, key)
  return { ...question, answer }
}

/** The question of messages that have nothing else but a system message. */
export function oneQuestion(turns: readonly Turn[], key: string, all = turns.length): Omit<Exchange, 'answer'> {
  const users = turns.filter(({ role }) => role === 'user')
  const systems = turns.filter(({ role }) => role === 'system')
  if (users.length !== 1 || systems.length > 1 || users.length + systems.length !== turns.length) {
    const wrong = all === 2 && turns[0]?.role !== 'user'
    if (wrong) throw new LeftOut('wrong_type', `${key} does not begin with a question`)
    throw new LeftOut('multi_turn', `${key} has ${all} messages, expected one question`)
  }
  return { question: users[0], system: systems[0]?.text }
}

export function refuseImages({ images, text }: Turn, key: string): void {
  if (images.length > 0 || text.includes('<image>')) {
    throw new LeftOut('image_places', `${key}: an answer holds an image`)
  }
}

/** The images of a record: those in the parts of its question, or those of its fields. */
export function allImages({ images, text }: Turn, named: ImageSource[]): ImageSource[] {
  if (images.length === 0) return named
  const same = (at: number): boolean => named[at].name === images[at].name && !named[at].bytes && !images[at].bytes
  if (named.length === 0 || (named.length === images.length && named.every((_, at) => same(at)))) return images
  const marks = text.split('<image>').length - 1
  throw new LeftOut(
    'image_places',
    `the question holds ${images.length} images in ${marks} places, and the record names ${named.length} beside it`,
  )
}
