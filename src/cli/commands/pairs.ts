import { type PairsResult, pairsStage } from '../../pairs/stage.js'
import { counted } from '../../text/plural.js'
import { formatCount, formatShare, formatTable } from '../format.js'
import { stageCommand } from '../stage-command.js'

export const pairs = stageCommand(pairsStage, {
  examples: [['pairs --samples s.jsonl --responses r.jsonl --out pairs.jsonl', 'offline, by word rules']],
  notes: 'After a stop of any kind, run the same command again: it continues and pays for no request twice.',
  describe,
})

function describe({ report, files, sent }: PairsResult): string {
  const { statistics, acceptance, style, perplexity, usage } = report
  const {
    answers,
    pairs: count,
    byOrigin,
    byOriginAndCategory,
    byRejection,
    readButNotDared,
    unknownWords,
  } = statistics
  const share = (part: number): string => formatShare(part / Math.max(1, answers))
  const rows = [
    ...Object.entries(byOrigin).map(([name, number]) => [`pair: ${name}`, number, share(number)]),
    ...Object.entries(byRejection).map(([name, number]) => [name, number, share(number)]),
  ]
  const lines = [
    `${counted(count, 'pair')} from ${counted(answers, 'answer')} (${formatShare(acceptance)}), ${report.mode}, by ${report.provider}`,
    formatTable(['outcome', 'answers', 'share'], rows),
    ...Object.entries(byOriginAndCategory).map(([origin, counts]) => `edits, ${origin}: ${listed(counts)}`),
    `understood, but no pair dared: ${readButNotDared}`,
    `words that the rules do not know, most frequent first: ${listed(unknownWords, 12)}`,
  ]
  if (style) {
    const words = `${style.chosen.meanWords} and ${style.rejected.meanWords} words`
    const longer = `longer is chosen in ${formatShare(style.longerIsChosen)}`
    lines.push(`style gap, chosen and rejected: ${words}, ${longer}, divergence ${style.unigramDivergence} bits a word`)
  }
  if (perplexity) {
    const { chosen, rejected, chosenIsLikelier, model } = perplexity
    const likelier = `chosen likelier in ${formatShare(chosenIsLikelier)}`
    lines.push(`perplexity under ${model}: ${chosen} and ${rejected}, ${likelier}`)
  }
  if (usage) {
    const tokens = `${formatCount(usage.promptTokens)} + ${formatCount(usage.completionTokens)} tokens`
    lines.push(`${counted(usage.requests, 'request')} (${sent} of them now), ${tokens}, $${usage.cost}`)
  }
  return `${[...lines, ...files].join('\n')}\n`
}

const listed = (counts: Record<string, number>, most = 100): string =>
  Object.entries(counts)
    .slice(0, most)
    .map(([name, number]) => `${name} ${number}`)
    .join(', ') || 'none'
