/** Another value in the place of one: spelling, case, article, number of the noun that is counted. */
import type { EditProposal } from '../edits.js'
import type { Feature } from './grammar/types.js'
import { agreeWithNumber, articleFor, isMass, isPlural, matchCase } from './inflection.js'
import { groupNamed, words } from './lexicon.js'

/**
 * Edits that write `term` of the feature's group where the feature stands; null where the sentence would not bear it.
 * Numbers and measures take a text of the reference instead of a term of the lexicon.
 */
export function replaceFeature(text: string, feature: Feature, term: string): EditProposal[] | null {
  const { start, end } = feature
  if (feature.group === 'number') return replaceNumber(text, feature, Number(term))
  const group = groupNamed(feature.group)
  if (!group) return replacePlain(text, feature, term)
  const slots = group.terms.get(term) ?? []
  // A form that the other term lacks has its plain name instead where nothing has to agree with it.
  const spelling = slots[feature.slot]?.[0] ?? (/^(?:image|state)$/.test(group.role) ? slots[0]?.[0] : undefined)
  if (!spelling || isFixed(text, feature)) return null
  // "A normal in size heart" is no English.
  if (/ in /.test(spelling) && /^\s+(?!in\b|on\b|and\b|but\b)\p{L}/iu.test(text.slice(end))) return null
  const original = text.slice(start, end)
  const edit = { start, end, replacement: matchCase(original, spelling), category: group.category }
  if (group.role === 'finding') return fitNoun(text, edit, original, spelling)
  const article = articleBefore(text, start, edit.replacement)
  return article ? [{ ...article, category: group.category }, edit] : [edit]
}

/** Parts that not every organ has: the left lobe of the liver, a splenic hilum. */
const parts =
  'lobes?|heads?|tails?|body|neck|poles?|hilum|apex|apices|cortex|fundus|antrum|segments?|ducts?|valves?|arch|root|dome|tip|horns?'
const PART_OF = new RegExp(`\\b(?:${parts})\\s+of\\s+(?:(?:the|his|her)\\s+)?(?:(?:left|right)\\s+)?$`, 'i')
const PART = new RegExp(`^\\s+(?:${parts})\\b`, 'i')

/** Beside some neighbours a term belongs to a name: the left atrium, a lateral view. */
function isFixed(text: string, { group: name, start, end }: Feature): boolean {
  const group = groupNamed(name)
  const before = /([\p{L}\p{N}]+)[\s-]*$/u.exec(text.slice(0, start))?.[1].toLowerCase() ?? ''
  const after = /^[\s-]*([\p{L}\p{N}]+)/u.exec(text.slice(end))?.[1].toLowerCase() ?? ''
  const isOfPart = group?.role === 'organ' && (PART_OF.test(text.slice(0, start)) || PART.test(text.slice(end)))
  return group === undefined || isOfPart || group.fixedBefore.has(after) || group.fixedAfter.has(before)
}

const categories: Readonly<Record<string, string>> = { measure: 'size', ordinal: 'number', level: 'location' }

function replacePlain(text: string, feature: Feature, term: string): EditProposal[] | null {
  if (feature.group === 'word') {
    const original = text.slice(feature.start, feature.end)
    return [{ start: feature.start, end: feature.end, replacement: matchCase(original, term), category: 'finding' }]
  }
  const category = categories[feature.group]
  const original = text.slice(feature.start, feature.end)
  if (category === undefined || feature.group === 'measure') return null
  const replacement = feature.group === 'level' ? term.toUpperCase() : ordinalLike(original, Number(term))
  if (replacement === null) return null
  const edit = { start: feature.start, end: feature.end, replacement: matchCase(original, replacement), category }
  const article = articleBefore(text, feature.start, replacement)
  return article ? [{ ...article, category }, edit] : [edit]
}

function ordinalLike(original: string, value: number): string | null {
  if (!/\d/.test(original)) return words.ordinals[value - 1] ?? null
  const ending = value % 100 > 10 && value % 100 < 14 ? 'th' : (['th', 'st', 'nd', 'rd'][value % 10] ?? 'th')
  return `${value}${ending}`
}

/** Writes another amount of the same unit: "4.5" for "3" in "3 cm". */
export function replaceAmount(text: string, feature: Feature, amount: number): EditProposal {
  const written = text.slice(feature.start, feature.end)
  const decimals = /\.(\d+)$/.exec(written)?.[1].length ?? (Number.isInteger(amount) ? 0 : 1)
  return { start: feature.start, end: feature.end, replacement: amount.toFixed(decimals), category: 'number' }
}

/** A count, with the noun and the verb that follow it. */
function replaceNumber(text: string, feature: Feature, value: number): EditProposal[] | null {
  const { start, end, term } = feature
  const written = text.slice(start, end)
  const spelled = /^\p{L}+$/u.test(written) ? words.numbers[value] : String(value)
  if (spelled === undefined || !Number.isInteger(value) || /^x/i.test(written)) return null
  const edits: EditProposal[] = [{ start, end, replacement: matchCase(written, spelled), category: 'number' }]
  // Grade 3 counts nothing.
  if (/\b(?:grade|stage|type|class|segment|zone|phase|slice|score|category)\s+$/i.test(text.slice(0, start)))
    return edits
  if ((Number(term) === 1) === (value === 1)) return edits
  const counted = /^\s+(?:[\p{L}-]+\s+){0,3}?([\p{L}-]+)(?=\s+(?:in|of|on|at|is|are|has|have)\b|\s*[.,;]|\s*$)/iu.exec(
    text.slice(end),
  )
  const isBare = /^\s*[.,;]?\s*$/.test(text.slice(end))
  if (!counted) return isBare ? edits : null
  const nounEnd = end + counted[0].length
  const agreed = agreeWithNumber(counted[1], value)
  if (agreed === null) return null
  if (agreed !== counted[1]) {
    edits.push({ start: nounEnd - counted[1].length, end: nounEnd, replacement: agreed, category: 'number' })
  }
  const before = /(?<=\bthere\s)(is|are)\s+(?:(?:only|just|exactly)\s+)?$/i.exec(text.slice(0, start))
  const after = /^\s+(is|are|has|have)\b/i.exec(text.slice(nounEnd))
  const verb = before ?? after
  const right = verb && (/^[ia]/i.test(verb[1]) ? (value === 1 ? 'is' : 'are') : value === 1 ? 'has' : 'have')
  if (!verb || !right || verb[1].toLowerCase() === right) return edits
  const at = before ? before.index : nounEnd + verb[0].length - verb[1].length
  edits.push({ start: at, end: at + verb[1].length, replacement: right, category: 'number' })
  return edits
}

/** A noun with an article needs another one with an article: `an effusion`, `a pneumothorax`, but `atelectasis`. */
function fitNoun(text: string, edit: EditProposal, original: string, spelling: string): EditProposal[] | null {
  const before = text.slice(0, edit.start)
  const article = /\b(an?)\s+$/i.exec(before)
  const far = /\b(an?)\s+(?:[\p{L}-]+\s+){1,3}$/iu.exec(before)
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
    const verb = /\b(?:shows?|is|has|have|demonstrates?|reveals?|there is)\s+$/i
    if (!verb.test(before)) return /^\W*$/.test(before) ? [edit] : null
    return [{ ...edit, replacement: `${articleFor(spelling)} ${spelling}` }]
  }
  return [edit]
}

/** The article before a word that is about to change, when it has to change too. */
function articleBefore(text: string, start: number, following: string): EditProposal | null {
  const article = /\b(an?)(\s+)$/i.exec(text.slice(0, start))
  if (!article) return null
  const right = matchCase(article[1], articleFor(following))
  if (right.toLowerCase() === article[1].toLowerCase()) return null
  const from = start - article[0].length
  return { start: from, end: from + article[1].length, replacement: right, category: '' }
}
