/** What an evaluation leaves in its folder, beside before.responses.jsonl, after.responses.jsonl and masks/. */
export const evaluationFiles = {
  results: 'results.json',
  before: 'before.jsonl',
  after: 'after.jsonl',
  attention: 'attention.jsonl',
} as const
