/** What counts as a closed question. Papers differ, and their denominators with them. */

export const closedRules = ['answer_type', 'yes_no_exact', 'paper_substring'] as const

/**
 * `answer_type`: what the source says. `yes_no_exact`: the answer is yes or no and nothing else. `paper_substring`: the
 * lower-cased answer contains "yes" or "no" anywhere, as in "abnormal", which is the split behind the published FiRe-MPO
 * tables (261/190 and 364/697): they were counted after pandas had read `None` as not-a-number.
 */
export type ClosedRule = (typeof closedRules)[number]

const yesOrNo = new Set(['yes', 'no', '是', '是的', '不是', '否', '有', '没有', '包含', '不包含', '可以', '不可以'])

/** `said` is the source's own word; without it `answer_type` falls back to `yes_no_exact`. */
export function isClosed(rule: ClosedRule, answer: string, said: boolean | undefined): boolean {
  if (rule === 'answer_type' && said !== undefined) return said
  const text = answer.trim().toLowerCase()
  // Longer texts are no single word, and a pattern that ends in $ is slow on them.
  if (rule !== 'paper_substring') return text.length < 100 && yesOrNo.has(text.replace(/[.。!！]+$/, ''))
  return answer !== 'None' && (text.includes('yes') || text.includes('no'))
}
