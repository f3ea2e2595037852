/** Which stage some work is of, for machines; people read it in the title. */
export interface Place {
  /** `round-1/pairs` */
  stage: string
  /** What of it; empty: its work as a whole. */
  part: string
  /** In a pipeline its place among the stages, from 1, and how many there are. The steps of a study, which workers share, have none. */
  number?: number
  count?: number
}

/** A stage as it is announced. */
export type Announced = Omit<Place, 'part'>

/** `3/11 round-1/pairs` */
export const titleOf = ({ stage, number, count }: Announced): string =>
  number === undefined ? stage : `${number}${count === undefined ? '' : `/${count}`} ${stage}`

/** Where progress goes: a bar, lines, or nothing. */
export interface Progress {
  /**
   * Starts a stage of `total` units (0 = unknown), of which an earlier run did `done`; a stage still open is ended first.
   */
  start(title: string, total: number, unit?: string, done?: number, place?: Place): void
  /**
   * Sets how many units of the stage are done, with an optional short status such as "loss 0.61", and the numbers behind it for
   * machines.
   */
  update(done: number, status?: string, metrics?: Record<string, number>): void
  /** What an evaluation of a running training measured, for machines; a line of `log` says it to people. */
  evaluated?(metrics: Record<string, number>): void
  /** Ends the stage; the optional summary replaces its status. */
  end(summary?: string): void
  /** Prints a line without tearing the bar apart. */
  log(line: string): void
}

/** Shows nothing. */
export const silent: Progress = { start() {}, update() {}, end() {}, log() {} }

/** Puts a stage's name before every title, so that its parts need not know it. */
export function titled(progress: Progress, stage: Announced): Progress {
  const title = titleOf(stage)
  return {
    start: (part, total, unit, done) =>
      progress.start(part === '' ? title : `${title}: ${part}`, total, unit, done, { ...stage, part }),
    update: (done, status, metrics) => progress.update(done, status, metrics),
    evaluated: (metrics) => progress.evaluated?.(metrics),
    end: (summary) => progress.end(summary),
    log: (line) => progress.log(line),
  }
}

/** For work that says `(done, total)` and nothing before. */
export function counting(progress: Progress, unit: string): (done: number, total: number) => void {
  let started = false
  return (done, total) => {
    if (!started) progress.start('', total, unit)
    started = true
    progress.update(done)
  }
}
