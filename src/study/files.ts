/** Names below the folder of a study. */
export const studyFiles = {
  /** The study as it is run, with everything decided. */
  study: 'study.yaml',
  results: 'study.json',
  page: 'report.html',
  tables: 'tables',
} as const
