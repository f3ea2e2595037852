/** Names below the folder of a study. */
export const studyFiles = {
  /** The study as it is run, with everything decided. */
  study: 'study.resolved.yaml',
  /** Its runs and steps. */
  plan: 'plan.json',
  results: 'study.json',
  page: 'report.html',
  tables: 'tables',
  /** Locks: who has which step in hand, and who runs the study. */
  claims: 'claims',
  /** Image features and results of the reference, shared by all steps; may be deleted at any time. */
  features: 'features',
} as const
