/** The file of a study: one setting for all arms, the arms, and the tables that hold them side by side. */
import { z } from 'zod'
import { count, text, whole } from '../settings/common.js'

/** What an accuracy is of: all questions, or the closed or the open ones by `answer_type`. */
export const metrics = ['overall', 'closed', 'open'] as const
export type Metric = (typeof metrics)[number]

/**
 * What else arms may be compared by, question by question. Of drawn answers: `headroom` is pass@k less pass@1, `uniqueShare` distinct
 * answers over answers. Of rewards: `contentOverStyle` is the share of crossed items whose right text has the higher reward whichever
 * of the two is in the reference's style.
 */
export const measures = ['headroom', 'uniqueShare', 'contentOverStyle'] as const
export type Measure = (typeof measures)[number]

const name = text.regex(/^[a-zA-Z0-9][\w.+-]*$/, 'letters, digits, . + - and _, beginning with a letter or digit')
const names = z.array(name).min(1)

const changes = z.record(z.string(), z.unknown())
const form = 'KEY.KEY: value, as for --set; null takes a section out'

const comparison = z.strictObject({
  arm: name.meta({ description: 'The arm that is claimed to have more' }),
  baseline: name.meta({ description: 'The arm that it is compared with' }),
  metric: z
    .enum([...metrics, ...measures])
    .default('overall')
    .meta({ description: 'Accuracy on these questions (closed by answer_type), or a measure of a further evaluation' }),
})

const arm = z.strictObject({
  words: text.meta({ description: 'What the arm is, in a few words' }),
  row: text.optional().meta({ description: 'Row of a published table that it stands for' }),
  set: changes.default({}).meta({ description: 'How it differs from the base', form }),
  tunedAs: name.optional().meta({ description: 'Arm whose tuned value it takes; default: its own' }),
})

const line = z.strictObject({
  label: text.meta({ description: 'What the line is, for instance λ' }),
  arms: z.record(name, z.number()).meta({ description: 'Where each arm stands on it' }),
})

const furtherEvaluation = z.strictObject({
  words: text.meta({ description: 'What it measures, in a few words' }),
  rewards: z
    .boolean()
    .default(false)
    .meta({ description: 'Measure rewards on the held-out pairs and on those of the arm, of arms that train' }),
  set: changes.default({}).meta({ description: 'How it differs from the section evaluate', form }),
})

/** Pairs of held-out questions: the base’s sections sample and pairs with these changes, the same for all arms. */
const heldOut = z.strictObject({
  sample: changes.default({}).meta({ description: 'Changes in the section sample, the split above all', form }),
  pairs: changes.default({}).meta({ description: 'Changes in the section pairs', form }),
})

const table = z.strictObject({
  title: text.meta({ description: 'Heading of its page' }),
  question: text.meta({ description: 'What it is to answer' }),
  arms: names.meta({ description: 'Its arms, in the order of the rows' }),
  baseline: name.meta({ description: 'Arm that all others are compared with; Holm’s correction is over these' }),
  primary: comparison.meta({ description: 'The one comparison that was fixed before anything was run' }),
  evaluations: z
    .array(name)
    .default([])
    .meta({ description: 'Further evaluations of its arms, from those of the file' }),
  lines: z.array(line).default([]).meta({
    description: 'Lines through arms that differ in one number',
    form: 'label, arms by name with their number',
  }),
  optional: z.boolean().default(false).meta({ description: 'Not part of a run of all tables' }),
})

const tune = z.strictObject({
  setting: text.meta({ description: 'Setting that is chosen for each arm, for instance train.optimizer.lr' }),
  values: z.array(z.number()).min(2).meta({ description: 'Values that are tried', form: 'numbers' }),
  metric: z.enum(metrics).default('overall').meta({ description: 'The accuracy that decides' }),
  seed: whole.meta({ description: 'Seed of the trials; none of the seeds of the study' }),
  set: changes.default({}).meta({
    description:
      'How trials differ from the base: another split above all, so that nothing is chosen on what is reported',
    form,
  }),
})

const quick = z.strictObject({
  seeds: z.array(whole).min(1).default([0]).meta({
    description: 'Seeds of --quick, which runs the baseline and the primary comparison of each table',
    form: 'whole numbers',
  }),
  set: changes.default({}).meta({ description: 'Changes that make it quick', form }),
})

export const studySettings = z.strictObject({
  title: text.meta({ description: 'What the study is called' }),
  base: z
    .record(z.string(), z.unknown())
    .meta({ description: 'What all arms share: the keys and sections of a pipeline file', form: 'sections' }),
  arms: z.record(name, arm).meta({ description: 'Arms by name: words, row, set, tunedAs', form: 'arms by name' }),
  tables: z
    .record(name, table)
    .meta({ description: 'Arms held side by side: title, question, arms, baseline, primary', form: 'tables by name' }),
  only: names.optional().meta({ description: 'The arms that are run; default: all of the tables' }),
  seeds: z.array(whole).min(1).default([0, 1, 2]).meta({
    description: 'Every arm is run with each of them',
    form: 'whole numbers',
  }),
  margin: z.number().min(0).max(1).default(0.03).meta({
    description: 'Difference in accuracy below which arms count as equivalent, as a share',
  }),
  draws: count.default(4000).meta({ description: 'Bootstrap draws behind an interval', unit: 'draws' }),
  evaluations: z.record(name, furtherEvaluation).default({}).meta({
    description: 'Further evaluations that tables may ask for, by name: words, rewards, set',
    form: 'evaluations by name',
  }),
  heldOut: heldOut.optional().meta({ description: 'Pairs of held-out questions, which rewards are measured on' }),
  tune: tune.optional().meta({ description: 'A setting chosen for each arm before the study, on other data' }),
  quick: quick.optional().meta({ description: 'What --quick runs' }),
  small: z.boolean().default(false).meta({ description: 'Too small to conclude anything; the page says so' }),
})

/** What the file holds, checked. */
export type StudyFile = z.output<typeof studySettings>
export type Comparison = z.output<typeof comparison>
export type Changes = z.output<typeof changes>
/** An arm that takes the training out of the base. */
export const isUntrained = ({ set }: { set: Changes }): boolean => set.train === null
export type Table = z.output<typeof table>
export type Tune = z.output<typeof tune>

/** The schemas of what stands under a name in the file, for the reference page. */
export const namedSettings = { arms: arm, tables: table, evaluations: furtherEvaluation }
