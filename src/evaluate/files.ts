/** What an evaluation leaves in its folder, beside answers (*.responses.jsonl), hidden questions (*.samples.jsonl), masks/ and hidden/. */
export const evaluationFiles = {
  results: 'results.json',
  before: 'before.jsonl',
  after: 'after.jsonl',
  attention: 'attention.jsonl',
  hidden: 'hidden.jsonl',
} as const
