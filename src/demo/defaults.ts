/**
 * The sizes and rates of the demo: the one place where they are set, each with its reason. Objective coefficients are not
 * here: every objective runs with the published ones, which are the defaults of the training configuration. models/phantom.yaml
 * is the same recipe for `fire-train train`; a test keeps the two equal.
 */

export interface DemoSettings {
  /** Studies whose questions the model is sampled on; each study carries about six questions. */
  trainStudies: number
  /** Held-out studies, never shared with training: they set the width of the intervals. */
  testStudies: number
  /** Answers sampled for each training question; equal ones become one pair. */
  samplesPerQuestion: number
  /** Of the sampled answers. 1 is the model's own distribution: the pairs are then on-policy in the strict sense. */
  temperature: number
  /** Nucleus of the sampled answers; 1 keeps the whole distribution. */
  topP: number
  /** Enough for a report of four sentences; an answer that is longer is cut off and judged as it stands. */
  maxNewTokens: number
  /** Prompts decoded together. */
  generationBatch: number
  /** Grey levels of the noise on the lesion. The published 45 leaves the synthetic lesions visible, so it is stronger here. */
  noiseSigma: number
  /** Grey levels of the noise on the whole image, where a question has no place to hide: the published value. */
  fallbackSigma: number
  /** Edits that touch more of an answer's words than this are left out: they would no longer be minimal. */
  maxEditedShare: number
  /** Rank of the adapter: the published 128 is the width of this model's hidden state, so a quarter of it. */
  loraRank: number
  /** Twice the rank, as published. */
  loraAlpha: number
  /** As published. */
  loraDropout: number
  /** As published: the update is scaled by alpha over the root of the rank. */
  rslora: boolean
  /** Above the published 1e-6: so small a model sees so few steps that its weights would not move. */
  learningRate: number
  /** Pairs per optimizer step, as published. */
  batchSize: number
  /** Passes over the pairs. */
  epochs: number
  /** Arithmetic of the matrix products. f32 is as fast as bf16 at this width. */
  dtype: 'f32' | 'bf16'
  /** Held-out questions whose attention is measured before and after. */
  attentionQuestions: number
}

export const DEMO_SETTINGS: DemoSettings = {
  trainStudies: 200,
  testStudies: 150,
  samplesPerQuestion: 1,
  temperature: 1,
  topP: 1,
  maxNewTokens: 64,
  generationBatch: 32,
  noiseSigma: 90,
  fallbackSigma: 12,
  maxEditedShare: 0.5,
  loraRank: 32,
  loraAlpha: 64,
  loraDropout: 0.05,
  rslora: true,
  learningRate: 1e-4,
  batchSize: 8,
  epochs: 1,
  dtype: 'f32',
  attentionQuestions: 60,
}

/** A look at every stage in well under a minute. Far too few questions to conclude anything, and the report says so by its intervals. */
export const QUICK_SETTINGS: Partial<DemoSettings> = { trainStudies: 24, testStudies: 16, attentionQuestions: 12 }
