/** Learning rate by optimizer step. */
import type { TrainConfig } from './settings.js'

/** The `schedule` section of a configuration. */
export type Schedule = Pick<TrainConfig['schedule'], 'name' | 'warmupSteps' | 'warmupRatio'>

/** Warm-up steps: as given, or a share of all steps rounded up. */
export function warmupSteps(schedule: Schedule, totalSteps: number): number {
  return schedule.warmupSteps ?? Math.ceil((schedule.warmupRatio ?? 0) * totalSteps)
}

/**
 * Factor of the peak rate at `step` (from 0). During warm-up of w steps: step / w. After it, with
 * p = (step - w) / (total - w): cosine (1 + cos(pi p)) / 2, linear 1 - p, constant 1. These are the schedules of
 * transformers, so the first step of a warm-up has rate 0.
 */
export function learningRateFactor(schedule: Schedule, step: number, totalSteps: number): number {
  const warmup = warmupSteps(schedule, totalSteps)
  if (step < warmup) return step / warmup
  const progress = Math.min(1, (step - warmup) / Math.max(1, totalSteps - warmup))
  switch (schedule.name) {
    case 'cosine':
      return 0.5 * (1 + Math.cos(Math.PI * progress))
    case 'linear':
      return 1 - progress
    case 'constant':
      return 1
  }
}
