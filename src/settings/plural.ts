/** Numbers with what they count. */

/** `1 file`, `2 files`; `1 matches` never. @param many where an s is not enough. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${String(count).replace(/\B(?=(\d{3})+$)/g, ' ')} ${count === 1 ? one : many}`
}
