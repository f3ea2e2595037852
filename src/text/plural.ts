/** Numbers with what they count. */

/** `1 file`, `2 files`. @param many where an s is not enough: `counted(1, 'was', 'were')`. */
export const counted = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`
