/**
 * What published scripts count as right, traps included, so that a number of ours can be held against a published one. LLaVA-Med at
 * ad758b6 (its `llavaMed2023` drops wrong closed answers; pull request 35 counts them), MedEvalKit at 9b12e3b, lmms-eval at 75571cf, the
 * FiRe-MPO release at 475b9f2.
 */
import type { Sample } from '../../data/records.js'
import { between, blocksOf, withoutBlocks } from '../../endpoint/blocks.js'
import { pythonSpace, pythonSplit, pythonStrip } from '../python.js'
import type { Parity } from '../records.js'
import { lastBoxed } from './final-answer.js'

type Question = Pick<Sample, 'answer' | 'answerType'>

/** All published rules on one answer. */
export function parityOf({ answer, answerType }: Question, text: string): Parity {
  const closed = answerType === 'closed'
  const current = closed ? closedOfLlavaMed(answer, text) : null
  return {
    llavaMed2023: current?.counted === false ? null : (current?.score ?? null),
    llavaMed: current?.score ?? null,
    medEvalKit: medEvalKit(answer, text, closed),
    lmmsEval: lmmsEvalWords(answer) === lmmsEvalWords(text),
    companion: companionYesNo(answer, text),
    scores: closed ? null : llavaMedScores(answer, text),
  }
}

// ── LLaVA-Med ────────────────────────────────────────────────────────────────

const punctuation = [
  ';',
  '/',
  '[',
  ']',
  '"',
  '{',
  '}',
  '(',
  ')',
  '=',
  '+',
  '\\',
  '_',
  '-',
  '>',
  '<',
  '@',
  '`',
  ',',
  '?',
  '!',
]
const numberWords = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten']
const numerals = new Map([['none', '0'], ...numberWords.map((word, value): [string, string] => [word, String(value)])])

/** Forms of the VQA evaluation's table; what lacks one of the apostrophes is mended. */
const contracted = `ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
  how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't shan't
  she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd
  something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've
  we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's
  won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've`
const mended = new Map(
  contracted.split(/\s+/).flatMap((form) => {
    return [...form.matchAll(/'/g)].map(({ index }) => [form.slice(0, index) + form.slice(index + 1), form] as const)
  }),
)

/** Full stops that one call of the original removes: a flag that was passed as a count. */
const mostStops = 32

/** `normalize_word`: one comma between digits anywhere makes all punctuation vanish instead of becoming a space. */
export function normalizeWord(text: string): string {
  const hasThousands = /\p{Nd},\p{Nd}/u.test(text)
  let plain = text
  for (const mark of punctuation) {
    const vanishes = hasThousands || text.includes(`${mark} `) || text.includes(` ${mark}`)
    plain = plain.replaceAll(mark, vanishes ? '' : ' ')
  }
  let stops = 0
  plain = plain.replace(/\.(?!\p{Nd})/gu, (stop) => (stops++ < mostStops ? '' : stop))
  return pythonSplit(plain.toLowerCase())
    .map((word) => numerals.get(word) ?? word)
    .filter((word) => word !== 'a' && word !== 'an' && word !== 'the')
    .map((word) => mended.get(word) ?? word)
    .join(' ')
    .replaceAll(',', '')
}

/** Substrings decide: "normal" holds a "no". `counted`: false where the first release left the question out. */
function closedOfLlavaMed(answer: string, text: string): { score: number; counted: boolean } {
  const [reference, said] = [normalizeWord(answer.toLowerCase()), normalizeWord(text.toLowerCase())]
  if (!said.includes('yes') && !said.includes('no')) return { score: 0, counted: true }
  const score = Number(said.includes(reference))
  return { score, counted: score === 1 }
}

/** Words of texts that `evaluate` has normalised and its metrics normalise once more. */
const countWords = (text: string): Map<string, number> => {
  const counts = new Map<string, number>()
  for (const word of pythonSplit(normalizeWord(normalizeWord(text.toLowerCase())))) {
    counts.set(word, (counts.get(word) ?? 0) + 1)
  }
  return counts
}

/** `exactMatch` is, despite its name, a precision; the published "open recall" is `recall`. */
function llavaMedScores(answer: string, text: string): NonNullable<Parity['scores']> {
  const [reference, said] = [countWords(answer), countWords(text)]
  const total = [...said.values()].reduce((sum, times) => sum + times, 0)
  let [distinct, matched, missed] = [0, 0, 0]
  for (const [word, times] of reference) {
    const found = said.get(word)
    if (found === undefined) missed += times
    else {
      distinct += 1
      matched += found
    }
  }
  const exactMatch = total === 0 ? 0 : distinct / total
  if (matched === 0) return { exactMatch, f1: 0, precision: 0, recall: 0 }
  const [precision, recall] = [matched / total, matched / (matched + missed)]
  return { exactMatch, f1: (2 * precision * recall) / (precision + recall), precision, recall }
}

/**
 * LLaVA-Med's accuracy of an open answer: of all candidate answers, the first with the largest share of its words in the text must be
 * the reference.
 */
export function openAccuracy(answer: string, text: string, candidates: readonly string[]): number {
  const said = new Set(countWords(text).keys())
  let [best, share] = ['', -1]
  for (const candidate of candidates) {
    const words = new Set(pythonSplit(normalizeWord(candidate)))
    const found = words.size === 0 ? 0 : [...words].filter((word) => said.has(word)).length / words.size
    if (found > share) [best, share] = [normalizeWord(candidate), found]
  }
  return Number(best === normalizeWord(normalizeWord(answer.toLowerCase())))
}

// ── MedEvalKit ───────────────────────────────────────────────────────────────

const announcements = [
  '**answer**:',
  '**answer**',
  '*answer*:',
  '**answer:**',
  'answer is',
  'answer:',
  '答案:',
  'final answer',
  'final answer is',
]

function medEvalKitAnswer(text: string): string {
  let said = text.toLowerCase()
  // "None" is no lower-case "no".
  if (said.includes('boxed')) said = pythonStrip(lastBoxed(said) ?? 'None')
  else said = taggedText(said, 'answer')
  for (const mark of announcements)
    said = said.slice(said.lastIndexOf(mark) < 0 ? 0 : said.lastIndexOf(mark) + mark.length)
  return said
}

/** MedEvalKit's `extract`: all blocks of a tag in one; the whole text where they hold nothing. */
export function taggedText(text: string, tag: string): string {
  const blocks = blocksOf(text, [[`<${tag}>`, `</${tag}>`]])
  return pythonStrip(blocks.map(({ content }) => `${content} `).join('')) || text
}

const withoutStops = (text: string): string => text.replaceAll('\n', '').replaceAll('.', '')

/** Exactly one of "yes" and "no" as letters, and the reference among them; other questions: equality. */
function medEvalKit(answer: string, text: string, closed: boolean): boolean {
  const reference = answer.toLowerCase()
  const said = medEvalKitAnswer(text)
  if (!closed) return said === reference
  const plain = withoutStops(said)
  if (reference !== 'yes' && reference !== 'no') return plain === reference
  return plain.includes('yes') !== plain.includes('no') && plain.includes(reference)
}

// ── lmms-eval ────────────────────────────────────────────────────────────────

const affirmations = new Set(['yes', 'yeah', 'yep', 'true', '是', '是的', '有', '包含', '可以', '能', '会', '正常'])
const denials = new Set([
  'no',
  'nope',
  'false',
  '否',
  '不是',
  '没有',
  '无',
  '不包含',
  '不能',
  '不会',
  '不可以',
  '不正常',
  '异常',
])

const brackets = [
  ['(', ')'],
  ['（', '）'],
] as const

function lmmsEvalWords(text: string): string {
  const plain = withoutBlocks(text.toLowerCase(), brackets, ' ').replace(
    /[!-/:-@[-`{-~！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～、《》【】]/g,
    ' ',
  )
  const said = pythonSplit(plain).join(' ')
  if (said === 'x ray') return 'xray'
  return affirmations.has(said) ? 'yes' : denials.has(said) ? 'no' : said
}

// ── FiRe-MPO release ─────────────────────────────────────────────────────────

const wholeYesNo = /(?<![\p{L}\p{N}_])(yes|no)(?![\p{L}\p{N}_])/iu
const lastMarks = new RegExp(`[.!]+${pythonSpace}*$`)

/** The first whole word yes or no decides; null where the release asks its judge. */
function companionYesNo(answer: string, text: string): boolean | null {
  const reference = pythonStrip(answer).toLowerCase().replace(lastMarks, '').trimEnd()
  if (reference !== 'yes' && reference !== 'no') return null
  const said = between(text, '<ANSWER>', '</ANSWER>') ?? text
  const first = wholeYesNo.exec(said)?.[1]
  return first === undefined ? null : first.toLowerCase() === reference
}
