/** What an evaluation leaves in its folder, beside answers (*.responses.jsonl), hidden questions (*.samples.jsonl), masks/ and hidden/. */
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
  hidden: 'hidden.jsonl',
} as const
