/**
 * The sentences that the rules understand, each as a whole. Names in lower case that no rule defines are word classes of
 * words.json, or `term`, `open` and `number`. What is not derived from `segment` is not understood, and that is the point:
 * a sentence with one word more than this leaves its answer undecided.
 */
import { compileGrammar, lexemesOf, type Node } from './parser.js'

const text = `
segment    = opening? statement (sep lead)? | opening? lead sep? statement? | intro
opening    = intro sep?
sep        = "," | "-" | ":"
lead       = yes | no_ | agreed
statement  = clause (join clause)*
join       = "," | ","? "but" | ","? "and" | ","? "whereas" | ","? "while"

clause     = existence | lacks | vanished | unchanged | both | seeing | showing | cleared | event | making | condition | lying
             | measuring | label | short | fragment

-- Things: what is there, and what is not
phrase     = some? art? item+ tail~
item       = term apposed? | open | number unitword? | generic | picture | one
apposed    = "(" term ")"
tail       = prep phrase | ","? "on" "the" term | "to" "the"? term
list       = proof? "any"? trace? phrase (("," phrase)* ","? "and" phrase)?
noList     = "no" trace? phrase (("," phrase)* ","? noMore phrase)?
noMore     = "or" "no"? | "nor" | "and" "no"
neither    = "neither" phrase "nor" phrase
lacking    = (lack | resolution) phrase
noLack     = "no" lack phrase
things     = list | noList | neither | lacking | noLack
without    = ","? (("without" | "with" "no" | "but" "no" | "and" "no") trace?) phrase (("," phrase)* ","? "or" phrase)?
opposed    = ","? ("not" | "and" "not" | "but" "not") (tail+ | phrase)

-- Copulas: a negation may stand beside a mere aside, never before a word that it would weigh
is         = be neg aside* | aside* be how* | do neg seem
isNow      = be neg | be how* | have how* "been" | have neg "been"
how        = adverb | aside
subject    = things | pronoun

existence  = "there" how* isThere things how* seen? how* tail~ companion*
isThere    = be neg aside* | be how* | do neg seem
companion  = without | opposed
both       = "there" be "not" "only" list ","? "but" "also" list
seeing     = ("i" | "we") ("see" | do neg "see" | "can" "see" | "can" neg "see") things tail~
showing    = subject how* (shows | show | do neg show | do how* show) how* things companion*
condition  = subject is predicate opposed? companion?
predicate  = seen how* tail~ | absent how* tail~ | confirmed | located tail+ | phrase how* | tail+ how*
making     = subject (was | be) neg? made how* tail~ means?
means      = means_ phrase
lying      = subject (lie | do neg lie) how* tail+ opposed? | subject belong phrase
measuring  = subject measure phrase

-- Time and exclusion
event      = subject isNow (excluded | confirmed) tail~ | subject "can" "be" (excluded | confirmed) tail~
             | subject have neg? gone tail~ | subject be how* gone | subject have how* gone
             | subject have neg? "been" removed | subject (was | be) removed | subject have how* "been" removed
             | subject be "no" "longer" seen tail~
             | subject persist
             | subject "can" neg? "be" seen tail~
vanished   = "there" be "no" "longer" list tail~
unchanged  = ("there" be)? "no" change changing list | subject have neg "changed" | "nothing" "has" "changed" ":" condition
lacks      = subject is "without" phrase
cleared    = subject is ("free" "of" | "negative" "for" | "positive" "for") phrase (("," phrase)* ","? "or" phrase)?

-- Notes
label      = phrase ":" (none | absent | seen | yes | no_ | phrase)
short      = ("it" | "there" | "this" | "they" | "these") (be | do | have) neg?
fragment   = things how* (seen | absent)? how* tail~ companion* | how* tail+ opposed? | none | absent | list persist

-- Questions that want yes or no: statements with their verb in front
polar      = asked | statement ","? tag
asked      = askThere | askIs | askMade | askShown | askYou | askCan | askSeen | askGone | askLooks | askLies | askBelongs
askThere   = be neg? "there" neg? things seen? tail~
askIs      = be neg? subject neg? predicate
askMade    = (was | be) neg? subject made tail~ means?
askShown   = do neg? subject show things
askYou     = do "you" "see" things tail~
askCan     = "can" ("you" | "we" | "i") "see" things tail~
askSeen    = "can" subject "be" seen tail~
askGone    = have subject "been" removed
askLooks   = do subject look phrase
askLies    = do subject lie tail+
askBelongs = do subject belong phrase
tag        = (be | do | have) neg? pronounOr | "right"
pronounOr  = pronoun | "there"
look       = "look" | "appear" | "lie"
`

/** "In size" alone is no predicate: "the spleen normal | in size" has to be cut elsewhere. */
const saysSomething = (node: Node): boolean =>
  lexemesOf(node).some(({ kind, feature }) => feature !== undefined || /^(?:seen|absent|confirmed)$/.test(kind))

/** "Present" is a word of its own, not the noun of "no free air present". */
const hasNoun = (node: Node): boolean =>
  lexemesOf(node).length === 1 || !lexemesOf(node).some(({ feature }) => feature?.group === 'presence')

export const english = compileGrammar(text, { predicate: saysSomething, phrase: hasNoun })

/** Words that the grammar itself names; they are never a content word. */
export const ownWords: ReadonlySet<string> = new Set([...text.matchAll(/"(\w+)"/g)].map((match) => match[1]))
