/** Whether an edit left English behind: what is broken in the edited text and was not broken before. */
import { scan } from './rules/grammar/lexemes.js'
import { articleFor, isMass, isPlural } from './rules/inflection.js'
import { groupNamed } from './rules/lexicon.js'

/** Each check names the broken places of a text; only places that an edit brought in are its fault. */
const checks: readonly ((text: string) => string[])[] = [
  ...[articles, bareNouns, agreement, doubledWords],
  ...[countedArticles, negatedFocus, capitals],
]

/** What the edited text has that no writer would have written, or null. */
export function brokenLanguage(original: string, edited: string): string | null {
  for (const check of checks) {
    const before = new Set(check(original))
    const found = check(edited).find((place) => !before.has(place))
    if (found !== undefined) return found
  }
  return null
}

const matchesOf = (text: string, pattern: RegExp): RegExpExecArray[] => [...text.matchAll(pattern)] as RegExpExecArray[]

/** "An liver", "a effusion". */
function articles(text: string): string[] {
  return matchesOf(text, /\b(an?)\s+([\p{L}\p{N}][\p{L}\p{N}.-]*)/giu).flatMap(([whole, article, next]) =>
    article.toLowerCase() === articleFor(next) ? [] : [whole.toLowerCase()],
  )
}

const VERB = /(?:\bthere\s+(?:is|appears to be)|\b(?:shows|contains|reveals|demonstrates|is|with))\s+$/i

/** "There is nodule": a noun that is counted needs an article. */
function bareNouns(text: string): string[] {
  return scan(text).features.flatMap(({ group, start, end, slot }) => {
    const noun = text.slice(start, end)
    const isCounted = groupNamed(group)?.role === 'finding' && slot === 0 && !isMass(noun.split(' ').at(-1) ?? '')
    const before = text.slice(0, start)
    return isCounted && VERB.test(before) ? [`${/\S+\s+$/.exec(before)?.[0] ?? ''}${noun}`.toLowerCase()] : []
  })
}

/** "There are a nodule", "there is two nodules". */
function agreement(text: string): string[] {
  const pairs = matchesOf(
    text,
    /\bthere\s+(is|are)\s+(?:not\s+)?(?:(?:only|just|exactly)\s+)?(an?|one|two|three|four|five|six|several|multiple|no)\s+((?:[\p{L}-]+\s+){0,3}?[\p{L}-]+)(?=\s+(?:in|on|of|at|is|are|and|or|but|with|without)\b|\s*[.,;:]|\s*$)/giu,
  )
  return pairs.flatMap(([, verb, count, phrase]) => {
    const noun = phrase.split(/\s+/).at(-1) ?? ''
    const many = count.toLowerCase() === 'no' ? isPlural(noun) : !/^(?:an?|one)$/i.test(count)
    return (verb.toLowerCase() === 'are') === many || (count.toLowerCase() === 'no' && isMass(noun))
      ? []
      : [`there ${verb} … ${noun}`.toLowerCase()]
  })
}

/** "The the", "Yes, yes"; "No, no effusion is seen" is English. */
function doubledWords(text: string): string[] {
  return matchesOf(text, /(?<![\p{L}\p{N}])(?:(\p{L}+)\s+\1|yes,\s+yes)(?![\p{L}\p{N}])/giu).map(([whole]) =>
    whole.toLowerCase(),
  )
}

/** "A splenomegaly", "an other", "a grade 3 injuries". */
function countedArticles(text: string): string[] {
  const direct = matchesOf(text, /\ban?\s+([\p{L}-]+)/giu).filter(([, noun]) => isMass(noun) || /^other$/i.test(noun))
  const graded = matchesOf(text, /\ban?\s+(?:[\p{L}-]+\s+){0,2}\d+\s+([\p{L}-]+)/giu).filter(([, noun]) =>
    isPlural(noun),
  )
  return [...direct, ...graded].map(([whole]) => whole.toLowerCase())
}

/** "No … just", "just no": a focus that nothing is left for. */
function negatedFocus(text: string): string[] {
  const pattern = /\b(?:no|not)\s+(?:[\p{L}-]+\s+){0,4}?(?:just|only)\b|\b(?:just|only)\s+(?:no|not)\b/giu
  return matchesOf(text, pattern).map(([whole]) => whole.toLowerCase())
}

/** "An Ultrasound", "FIbrosis", "ATELECTASIS IS not SEEN": one name for all, since a text that has some may have more. */
function capitals(text: string): string[] {
  const isShouted = /^[^\p{Ll}]*\p{Lu}{4}[^\p{Ll}]*$/u.test(text)
  const odd = /(?<=[\p{Ll},]\s)\p{Lu}\p{Ll}+|(?<!\p{L})\p{Lu}{2}\p{Ll}{2}|\p{Lu}{2}\s+\p{Ll}{2,}\s+\p{Lu}{4}/u.test(
    text,
  )
  return odd && !isShouted ? ['a capital inside'] : []
}
