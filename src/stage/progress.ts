/** Where progress goes: a bar, lines, or nothing. */
export interface Progress {
  /** Starts a stage of `total` units (0 = unknown); a stage still open is ended first. */
  start(title: string, total: number, unit?: string): void
  /** Sets how many units of the stage are done, with an optional short status such as "loss 0.61". */
  update(done: number, status?: string): void
  /** Ends the stage; the optional summary replaces its status. */
  end(summary?: string): void
  /** Prints a line without tearing the bar apart. */
  log(line: string): void
}

/** Shows nothing. */
export const silent: Progress = { start() {}, update() {}, end() {}, log() {} }

/** Puts a stage's name before every title, so that its parts need not know it. */
export function titled(progress: Progress, title: string): Progress {
  return {
    start: (part, total, unit) => progress.start(part === '' ? title : `${title}: ${part}`, total, unit),
    update: (done, status) => progress.update(done, status),
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
