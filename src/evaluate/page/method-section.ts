/** What decides the numbers: inputs, settings, prompts and seeds. */
import { type Html, html } from '../../page/html.js'
import { percent } from '../../page/numbers.js'
import type { GreenAbout } from '../reports/score.js'
import type { EvaluationFolder } from './folder.js'
import { decimal, servedWords } from './words.js'

const lengthWords = ({ totalTokens, replyTokens }: GreenAbout): string =>
  totalTokens === null ? `at most ${replyTokens} tokens a reply` : `at most ${totalTokens} tokens with the prompt`

const trainedOnWords = ({ trainedOn }: EvaluationFolder['results']['inputs']): string[] =>
  trainedOn.length === 0 ? ['not named'] : trainedOn.map(({ path, sha256 }) => `${path}, SHA-256 ${sha256}`)

export function methodSection({ results, grounding }: EvaluationFolder): Html {
  const { inputs, judging, reports, asked, systems } = results
  const judges = [judging.judge, judging.second].flatMap((judge) => judge ?? [])
  const facts: [string, string | number | null][] = [
    ['fire-train', results.version],
    ['counted', `${results.made.at}, ${results.made.machine}`],
    ['samples', inputs.samples],
    ['samples, SHA-256', inputs.samplesSha256],
    ['images below', inputs.imageRoot],
    ...trainedOnWords(inputs).map((words): [string, string] => ['training pairs', words]),
    ['questions', `${results.questions} about ${results.images} images`],
    ['baseline', results.baseline],
    ['margin', `${percent(results.margin)} points`],
    ['seed', results.seed],
    ['judged', judging.description],
    ['rules', judging.rules && `version ${judging.rules.version}, lexicon ${judging.rules.lexiconSha256}`],
    ...judges.map((judge): [string, string] => [
      'judge',
      `${servedWords(judge)}, protocol ${judge.protocol}, prompt ${judge.promptSha256}`,
    ]),
    [
      'GREEN',
      reports?.green
        ? `${servedWords(reports.green)}, prompt ${reports.green.promptSha256}, ${lengthWords(reports.green)}`
        : null,
    ],
    ['cost of GREEN', reports?.green ? `US$ ${decimal(reports.green.cost, 2)}` : null],
    ['grounding', grounding.results.length > 0 ? `${grounding.results.length} sets of records` : null],
  ]
  return html`<section>
    <h2>Method</h2>
    <dl>${facts.map(([name, value]) => value !== null && html`<dt>${name}</dt><dd><bdi>${value}</bdi></dd>`)}</dl>
    <details><summary>Systems</summary>${systems.map(({ name, about }) => html`<h3 class="part">${name}</h3><pre>${JSON.stringify(about, null, 2)}</pre>`)}</details>
    <details><summary>How questions were asked</summary><pre>${JSON.stringify(asked, null, 2)}</pre></details>
  </section>`
}
