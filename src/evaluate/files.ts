/** What an evaluation leaves in its folder, beside before.responses.jsonl, after.responses.jsonl and masks/. */
export const evaluationFiles = {
  results: 'evaluation.json',
  samples: 'samples.jsonl',
  /** Folder of each system's answers. */
  answers: 'answers',
  predictions: 'predictions.jsonl',
  verdicts: 'verdicts.jsonl',
  reports: 'reports.jsonl',
  grounding: 'grounding.jsonl',
  before: 'before.jsonl',
  after: 'after.jsonl',
  attention: 'attention.jsonl',
} as const
