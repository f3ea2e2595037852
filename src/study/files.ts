/** Names below the folder of a study. */
export const studyFiles = {
  /** The study as it is run, with everything decided. */
  study: 'study.resolved.yaml',
  results: 'study.json',
  page: 'report.html',
  tables: 'tables',
  /** Image features and results of the reference, shared by all steps; may be deleted at any time. */
  features: 'features',
} as const
