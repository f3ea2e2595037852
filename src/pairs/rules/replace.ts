/** Another term in the place of one: spelling, case, article. */
import type { EditProposal } from '../edits.js'
import { articleFor, isMass, isPlural, matchCase } from './grammar.js'
import type { Mention } from './lexicon.js'
import { articleBefore } from './polarity.js'

/** Edits that write `term` where a mention stands; null where the sentence would not bear it. */
export function replaceMention(text: string, mention: Mention, term: string): EditProposal[] | null {
  const { group, slot, start, end } = mention
  const slots = group.terms.get(term) ?? []
  const spelling = slots[slot]?.[0]
  if (!spelling) return null
  const category = group.category
  const original = text.slice(start, end)
  const replacement = matchCase(original, spelling)
  const edit = { start, end, replacement, category }
  if (group.name !== 'finding') {
    const article = articleBefore(text, start, replacement)
    return article ? [{ ...article, category }, edit] : [edit]
  }
  return fitNoun(text, edit, original, spelling)
}

/** A noun with an article needs another one with an article: `an effusion`, `a pneumothorax`, but `atelectasis`. */
function fitNoun(text: string, edit: EditProposal, original: string, spelling: string): EditProposal[] | null {
  const article = /\b(an?)\s+$/i.exec(text.slice(0, edit.start))
  const far = /\b(an?)\s+(?:[\p{L}-]+\s+){1,3}$/iu.exec(text.slice(0, edit.start))
  const bare = (noun: string) => isMass(noun.split(' ').at(-1) ?? '')
  const { category } = edit
  if (article) {
    const start = edit.start - article[0].length
    const fitted = bare(spelling) ? spelling : `${articleFor(spelling)} ${spelling}`
    return [{ start, end: edit.end, replacement: matchCase(article[1], fitted), category }]
  }
  if (far && bare(spelling)) return null
  if (bare(original) && !bare(spelling) && !isPlural(spelling)) {
    // "shows atelectasis" asks for an article, "no atelectasis" and "left atelectasis" do not tell.
    const verb = /\b(?:shows?|is|has|have|demonstrates?|reveals?|suggests?|indicates?|there is)\s+$/i
    if (!verb.test(text.slice(0, edit.start))) return /^\W*$/.test(text.slice(0, edit.start)) ? [edit] : null
    return [{ ...edit, replacement: `${articleFor(spelling)} ${spelling}` }]
  }
  return [edit]
}
