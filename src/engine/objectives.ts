/**
 * Every objective in words: the one table that configuration, metrics, plans and reports read. The losses themselves are the
 * rows of the same names in native/objective/objectives.cpp; formulas and sources are in docs/objectives.md.
 */

/** Numbers that a formula may hold; what each means in an objective is in docs/objectives.md. */
export const coefficientNumbers = [
  'beta',
  'alpha',
  'gamma',
  'lambda',
  'labelSmoothing',
  'tau',
  'nllWeight',
  'textWeight',
  'bcoWeight',
  'ldAlpha',
  'fAlpha',
  'tokenWeight',
  'klWeight',
  'eta',
  'rho',
] as const
export const coefficientNames = [...coefficientNumbers, 'klReduction'] as const

/** A coefficient that at least one objective reads. */
export type Coefficient = (typeof coefficientNames)[number]
/** Values of coefficients. */
export type Coefficients = { [name in (typeof coefficientNumbers)[number]]?: number } & { klReduction?: 'sum' | 'mean' }

/** Which tokens of an answer are scored: those of the decisive phrases, or all with the end token. */
export type Scope = 'phrase' | 'completion'

/** The four sequences of a pair: an answer on the image or on its corrupted twin. */
export type Sequence = 'chosen' | 'rejected' | 'corruptedChosen' | 'corruptedRejected'

/** Two sequences that are compared. */
export interface Comparison {
  chosen: Sequence
  rejected: Sequence
}

/** The terms that a loss can be a sum of, beside its KL: fields of `PairStats`. */
export type LossTerm = 'base' | 'visual' | 'anchor' | 'nll' | 'bco' | 'anchorVisual' | 'consistency'

/** What an objective is made of. */
export interface ObjectiveTraits {
  summary: string
  /** The loss of a pair, in the notation of docs/objectives.md; `null`: a report draws it from what follows. */
  formula: string | null
  /** Coefficients the formula reads, with their published values. Setting another one is refused: it would change nothing. */
  coefficients: Coefficients
  /** Those that it divides by or takes the logarithm of. */
  above0: readonly (typeof coefficientNumbers)[number][]
  /** As published. */
  scope: Scope
  /** The sequences whose rewards are compared; `null` when there is no preference. */
  prefers: Comparison | null
  /** The sequences the visual term compares; `null` when there is none. */
  visual: Comparison | null
  /** What each term weighs in the loss: a number, a coefficient, or more than that. */
  terms: { [term in LossTerm]?: number | keyof Coefficients | ((k: Coefficients) => number) }
  /** Weight of the forward direction in the KL term: a number, or lambda. `null` when there is no KL term. */
  forwardKl: 1 | 'lambda' | null
  /** KL of both answers is read, inside the sigmoid. */
  innerKl: boolean
  /** The base term of an untrained adapter is ln 2, whatever the coefficients. */
  startsAtLn2: boolean
  /** Tokens of y+ over which a term is averaged in the whole optimizer step. */
  averages: Scope | 'as scored' | null
}

const text: Comparison = { chosen: 'chosen', rejected: 'rejected' }
const cleanImage: Comparison = { chosen: 'chosen', rejected: 'corruptedChosen' }
const reversed: Comparison = { chosen: 'corruptedRejected', rejected: 'corruptedChosen' }

/** A preference over whole answers; `traits` says what is different. */
function objective(
  summary: string,
  formula: string | null,
  coefficients: Coefficients,
  traits: Partial<Omit<ObjectiveTraits, 'summary' | 'formula' | 'coefficients'>> = {},
): ObjectiveTraits {
  return {
    summary,
    formula,
    coefficients,
    above0: [],
    scope: 'completion',
    prefers: text,
    visual: null,
    terms: { base: 1 },
    forwardKl: null,
    innerKl: false,
    startsAtLn2: true,
    averages: null,
    ...traits,
  }
}

const beta = 0.1
/** Rewards of a loss without beta have the scale of the others, so that they can be compared. */
export const rewardScale = beta
const kl = { alpha: 0.01, klReduction: 'sum' } as const
const fire = { beta, gamma: 0.1, lambda: 0.5, ...kl }
const phrases = { scope: 'phrase' } as const
const mixedKl = { ...phrases, terms: { base: 1, visual: 'gamma' }, forwardKl: 'lambda' } as const
const elsewhere = { startsAtLn2: false } as const

const table = {
  sft: objective('negative log-likelihood of the chosen answer', null, {}, { prefers: null, ...elsewhere }),
  dpo: objective('preference over whole answers', null, { beta }),
  mdpo: objective(
    'dpo, plus a preference for the clean image and an anchor on the chosen reward',
    null,
    { beta },
    { visual: cleanImage, terms: { base: 1, visual: 1, anchor: 1 } },
  ),
  'mask-dpo': objective('preference over phrase tokens only', null, { beta }, phrases),
  rrpo: objective(
    'phrase preference with forward KL over the whole chosen answer',
    null,
    { beta, ...kl },
    { ...phrases, forwardKl: 1 },
  ),
  'rrpo-phrase-kl': objective(
    'phrase preference with forward KL over phrase tokens',
    null,
    { beta, ...kl },
    { ...phrases, forwardKl: 1 },
  ),
  fire: objective('phrase preference, mixed KL on phrases, preference reversed under the corrupted image', null, fire, {
    ...mixedKl,
    visual: reversed,
  }),
  'fire-v1': objective('fire with the visual term (v, chosen) over (corrupted, chosen)', null, fire, {
    ...mixedKl,
    visual: cleanImage,
  }),
  'fire-v2': objective('fire with the visual term (v, chosen) over (corrupted, rejected)', null, fire, {
    ...mixedKl,
    visual: { chosen: 'chosen', rejected: 'corruptedRejected' },
  }),

  hinge: objective('margin up to 1, and no further', 'max(0, 1 − m)', { beta }, elsewhere),
  ipo: objective(
    'difference of mean log-ratios to 1 / (2 beta)',
    '(d⁺/n⁺ − d⁻/n⁻ − 1/(2β))²',
    { beta },
    { above0: ['beta'], ...elsewhere },
  ),
  'sigmoid-norm': objective('dpo on mean log-ratios', 'ℓ(β(d⁺/n⁺ − d⁻/n⁻))', { beta }),
  cdpo: objective('dpo where some labels are wrong', '(1 − e)·ℓ(m) + e·ℓ(−m)', { beta, labelSmoothing: 0.1 }),
  robust: objective('dpo without the bias of wrong labels', '((1 − e)·ℓ(m) − e·ℓ(−m)) / (1 − 2e)', {
    beta,
    labelSmoothing: 0.1,
  }),
  'bco-pair': objective('each answer classified by its own reward', 'ℓ(βd⁺) + ℓ(−βd⁻)', { beta }, elsewhere),
  'nca-pair': objective(
    'noise-contrastive alignment: the chosen reward up',
    'ℓ(βd⁺) + ½ℓ(−βd⁺) + ½ℓ(−βd⁻)',
    { beta },
    elsewhere,
  ),
  'apo-zero': objective('chosen reward above 0, rejected below', '1 − σ(βd⁺) + σ(βd⁻)', { beta }, elsewhere),
  'apo-down': objective('both rewards down, the rejected one further', 'σ(βd⁺) + 1 − σ(m)', { beta }, elsewhere),
  discopop: objective(
    'logistic and exponential loss, blended by the margin',
    '(1 − q)·ℓ(m) + q·exp(−m), q = σ(m/τ)',
    { beta, tau: 0.05 },
    { above0: ['tau'], ...elsewhere },
  ),
  'sppo-hard': objective(
    'log-ratios to plus and minus 1 / (2 beta)',
    '(d⁺ − 1/(2β))² + (d⁻ + 1/(2β))²',
    { beta },
    { above0: ['beta'], ...elsewhere },
  ),
  'exo-pair': objective(
    'reverse KL to a smoothed label',
    'σ(m)·(log σ(m) − log(1 − e)) + σ(−m)·(log σ(−m) − log e)',
    { beta, labelSmoothing: 0.001 },
    { above0: ['labelSmoothing'], ...elsewhere },
  ),
  'dpo-js': objective('dpo under the Jensen-Shannon divergence', 'ℓ(β(g(d⁺) − g(d⁻))), g(x) = log 2σ(x)', { beta }),
  'dpo-forward-kl': objective('dpo under the forward KL divergence', 'ℓ(β(g(d⁺) − g(d⁻))), g(x) = 1 − exp(−x)', {
    beta,
  }),
  'dpo-alpha': objective('dpo under an alpha divergence', 'ℓ(β(g(d⁺) − g(d⁻))), g(x) = (exp((a − 1)x) − 1)/(a − 1)', {
    beta,
    fAlpha: 0.5,
  }),

  'r-dpo': objective(
    'dpo with a margin for the longer chosen answer',
    'ℓ(m + α(n⁺ − n⁻))',
    { beta, alpha: 0.05 },
    elsewhere,
  ),
  'hsa-dpo': objective('dpo with the rejected reward times its severity (rejectedScore)', 'ℓ(β(d⁺ − s⁻d⁻))', { beta }),
  'dpo-nll': objective(
    'dpo, plus the likelihood of the chosen answer',
    'ℓ(m) − c·lp⁺/n⁺',
    { beta, nllWeight: 1 },
    { terms: { base: 1, nll: 'nllWeight' } },
  ),
  mpo: objective(
    'dpo, bco and likelihood, mixed',
    't·ℓ(m) + b·(ℓ(βd⁺) + ℓ(−βd⁻)) − c·(N/T)·lp⁺',
    { beta, textWeight: 0.8, bcoWeight: 0.2, nllWeight: 1 },
    { terms: { base: 'textWeight', bco: 'bcoWeight', nll: 'nllWeight' }, averages: 'completion', ...elsewhere },
  ),
  simpo: objective(
    'mean log-probabilities with a target margin, no reference',
    'ℓ(β(lp⁺/n⁺ − lp⁻/n⁻) − γ)',
    { beta: 2, gamma: 0.5 },
    elsewhere,
  ),
  cpo: objective(
    'dpo without a reference, plus likelihood',
    'ℓ(β(lp⁺ − lp⁻)) − c·(N/T)·lp⁺',
    { beta, nllWeight: 1 },
    { terms: { base: 1, nll: 'nllWeight' }, averages: 'as scored', ...elsewhere },
  ),
  orpo: objective(
    'odds ratio of the answers, plus likelihood, no reference',
    'β·ℓ(o⁺ − o⁻) − (N/T)·lp⁺, o = log(p/(1 − p)), p = exp(lp/n)',
    { beta },
    { terms: { base: 'beta', nll: 1 }, averages: 'as scored', ...elsewhere },
  ),

  'token-weighted-dpo': objective(
    'dpo with more weight on phrase tokens',
    'ℓ(m), d = Σ w_t·d_t, w_t = w on phrases, 1 elsewhere',
    { beta, tokenWeight: 4 },
  ),
  'ld-dpo': objective(
    'dpo with less weight beyond the length of the shorter answer',
    'ℓ(m), d = Σ w_t·d_t, w_t = 1 for t ≤ min(n⁺, n⁻), a beyond',
    { beta, ldAlpha: 0.5 },
  ),
  tdpo1: objective('dpo less the difference of token KLs', 'ℓ(m − β(K⁻ − K⁺))', { beta }, { innerKl: true }),
  tdpo2: objective(
    'tdpo1 with a weight, and nothing learned from the KL of y+',
    'ℓ(m − βα(K⁻ − stop(K⁺)))',
    { beta, alpha: 0.5 },
    { innerKl: true },
  ),

  'mmedpo-text': objective('dpo, each pair with the weight of its record', 'ℓ(m)', { beta }),
  'mmedpo-visual': objective(
    'chosen answer on the image over rejected answer on the corrupted one',
    'ℓ(β(d(v, y⁺) − d(v′, y⁻)))',
    { beta },
    { prefers: { chosen: 'chosen', rejected: 'corruptedRejected' } },
  ),
  copo: objective(
    'chosen answer on the image over the same on the corrupted one',
    'ℓ(β(d(v, y⁺) − d(v′, y⁺)))',
    { beta },
    { prefers: cleanImage },
  ),
  cmdpo: objective(
    'preference over answers and over images in one sigmoid',
    'ℓ(m + β(d(v, y⁺) − d(v′, y⁺)))',
    { beta },
    { visual: cleanImage },
  ),
  chip: objective(
    'cmdpo with more weight on phrase tokens and the KLs of tdpo2',
    'ℓ(m + β(d(v, y⁺) − d(v′, y⁺)) − βκ(K⁻ − stop(K⁺))), d as token-weighted-dpo',
    { beta, tokenWeight: 4, klWeight: 0.1 },
    { visual: cleanImage, innerKl: true },
  ),
  'v-dpo': objective(
    'dpo guided by what the policy says of the corrupted image',
    'ℓ(β(h⁺ − h⁻)), h = γ·lp(v, y) − (γ − 1)·stop(lp(v′, y)) − lr(v, y)',
    { beta, gamma: 1.5 },
    { visual: cleanImage, ...elsewhere },
  ),
  'symmpo-pair': objective(
    'both answers preferred on their image, anchors, and equal margins',
    '(1 + λ)·ℓ(m) + λ·ℓ(βD) + η·(ℓ(βd⁺) + ℓ(βd(v′, y⁻))) + ρ(d⁺ − d⁻ − D)², D = d(v′, y⁻) − d(v′, y⁺)',
    { beta, lambda: 0.5, eta: 1, rho: 1e-4 },
    {
      visual: reversed,
      terms: {
        base: (k) => 1 + (k.lambda ?? 0),
        visual: 'lambda',
        anchor: 'eta',
        anchorVisual: 'eta',
        consistency: 'rho',
      },
    },
  ),
}

/** The losses that the engine computes. */
export type ObjectiveName = keyof typeof table

/**
 * See docs/objectives.md for the formulas. What is left out of the coefficients that an objective uses has its published value;
 * those that it does not use are not looked at here, and refused by the config.
 */
export interface ObjectiveSpec extends Coefficients {
  name: ObjectiveName
  /** Default: as published. */
  scope?: Scope
}

/** Every objective with its traits. */
export const objectives: Record<ObjectiveName, ObjectiveTraits> = table

/** The names that `objective.name` of a configuration may have. */
export const objectiveNames = Object.keys(objectives) as ObjectiveName[]

/** The coefficients that an objective reads. */
export const usedCoefficients = (name: ObjectiveName): Coefficient[] =>
  Object.keys(objectives[name].coefficients) as Coefficient[]

/** Whether an objective ever looks at the corrupted image. */
export const readsTwin = ({ prefers, visual }: ObjectiveTraits): boolean =>
  [prefers, visual].some((pair) => pair && (pair.chosen + pair.rejected).includes('corrupted'))

/** What a term weighs in the loss of an objective with these coefficients. */
export function termWeight(weight: ObjectiveTraits['terms'][LossTerm], k: Coefficients): number {
  if (typeof weight === 'function') return weight(k)
  return typeof weight === 'string' ? Number(k[weight]) : (weight ?? 0)
}

/** An objective as the engine takes it: every coefficient in its place, those that it does not use 0 (beta: `rewardScale`). */
export function completeObjective(spec: ObjectiveSpec): Required<ObjectiveSpec> {
  const { name, scope, klReduction } = spec
  const { coefficients, scope: usual } = objectives[name]
  const published: Coefficients = { beta: rewardScale, ...coefficients }
  const numbers = coefficientNumbers.map((key) => [key, spec[key] ?? published[key] ?? 0])
  return { name, scope: scope ?? usual, klReduction: klReduction ?? 'sum', ...Object.fromEntries(numbers) }
}

/** Of a pair as the engine takes it. */
interface ChosenTokens {
  chosen: Int32Array
  chosenMask: Uint8Array
}

/** Tokens of the chosen answers that the objective averages over, `chosenTokens` of a step; 0 where it does not. */
export function averagedTokens(pairs: readonly ChosenTokens[], { name, scope }: ObjectiveSpec): number {
  const { averages, scope: published } = objectives[name]
  if (averages === null) return 0
  const isWhole = averages === 'completion' || (scope ?? published) === 'completion'
  const count = ({ chosen, chosenMask }: ChosenTokens): number =>
    isWhole ? chosen.length : chosenMask.filter((bit) => bit !== 0).length
  return pairs.reduce((sum, pair) => sum + count(pair), 0)
}
