/** The ways to hide a lesion, and a control that does not. */

/** Noise on the lesion, as in training; the same noise where the lesion is not; black on the lesion. */
export const hidingMethods = ['lesion-noise', 'lesion-noise-elsewhere', 'lesion-blackout'] as const
/** One of `hidingMethods`. */
export type HidingMethod = (typeof hidingMethods)[number]

export const isNoise = (method: HidingMethod): boolean => method !== 'lesion-blackout'
