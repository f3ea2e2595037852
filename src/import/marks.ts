/**
 * Marks of trainers and chat formats inside texts. Images go in front of a question, so a mark in front of it says what is
 * done anyway; one between words says more than a record of ours can hold.
 */
import { counted } from '../text/plural.js'
import { LeftOut } from './draft.js'
import type { Notes } from './fields.js'

const mark = String.raw`(?:<image>|<\|vision_start\|>(?:<\|image_pad\|>)+<\|vision_end\|>|<\|image\|>|<\|image_pad\|>|<ImageHere>)`
const anywhere = new RegExp(mark, 'g')
const inFront = new RegExp(String.raw`^(?:\s*${mark})+\s*`)
const behind = new RegExp(`${mark}$`)

/** Numbered marks name their image by its place, which may be any order. */
const numbered = /<image[ _-]?\d+>|<\|image_\d+\|>/i

/**
 * A question without the marks of its images.
 * @throws {LeftOut} `image_places`: as many marks as there are images, and none between words, can be taken out.
 */
export function withoutMarks(text: string, images: number, note: Notes): string {
  const [other] = numbered.exec(text) ?? []
  if (other !== undefined) throw new LeftOut('image_places', `the text names its images as ${other}, which is not read`)
  const count = text.match(anywhere)?.length ?? 0
  if (count === 0) return text
  const facts = `${counted(count, 'mark')} such as <image> for ${counted(images, 'image')}`
  if (count !== images && images > 0) throw new LeftOut('image_places', `the text has ${facts}`)
  const isBehind = !inFront.test(text) && behind.test(text.trimEnd())
  let rest = text.replace(inFront, '')
  while (isBehind && behind.test(rest.trimEnd())) rest = rest.trimEnd().replace(behind, '').trimEnd()
  const inside = rest.match(anywhere)?.length ?? 0
  if (inside > 0) {
    throw new LeftOut('image_places', `the text has ${facts}, and ${inside} stand between words; images go in front`)
  }
  note(isBehind ? 'image_mark_moved_to_front' : 'image_mark_removed')
  return rest
}

/** Marks are for questions. */
export function refuseMarks(text: string): void {
  if (text.includes('<image>')) throw new LeftOut('image_places', 'an answer has the mark <image>')
}

const endTokens = [
  ...['<|im_end|>', '<|eot_id|>', '<|eom_id|>', '<|endoftext|>', '<|end_of_text|>', '<|end|>', '</s>', '<eos>'],
  ...['<end_of_turn>', '<end_of_utterance>', '<｜end▁of▁sentence｜>'],
]

const chatTokens =
  /<\|(?:im_start|im_end|eot_id|start_header_id|endoftext|end_of_text|user|assistant|system)\|>|<start_of_turn>|<end_of_turn>/

/** A text without the end token that training adds itself. */
export function withoutEnd(text: string, note: Notes): string {
  let rest = text
  for (let token: string | undefined = ''; token !== undefined; ) {
    const said = rest.trimEnd()
    token = endTokens.find((each) => said.endsWith(each))
    if (token !== undefined) rest = said.slice(0, -token.length).trimEnd()
  }
  if (rest !== text) note('end_token_removed')
  if (chatTokens.test(rest)) note('chat_token_in_text')
  if (rest === '' && text !== '') throw new LeftOut('empty_text', 'a text is nothing but an end token')
  return rest
}
