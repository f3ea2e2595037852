/**
 * One name a concept, from the settings to the kernel (CONTRIBUTING.md). Each row is a concept with the words that say the same
 * and are not used. camelCase and snake_case of a word are the same word.
 *
 * Usage: node scripts/lint-names.mjs [root]
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { filesUnder, runLint } from './offences.mjs'

/** The name that is used, the others, and where another one is right because a published format has it. */
export const names = [
  // `learning_rate` is the column of metrics.jsonl, as TRL has it.
  { name: 'lr', not: ['learning_rate'], except: /metrics|inspect|charts|training-section|report\/types/ },
  { name: 'eps', not: ['epsilon', 'adam_eps'] },
  { name: 'beta1, beta2', not: ['adam_beta1', 'adam_beta2', 'momentum1', 'momentum2'] },
  { name: 'weight_decay', not: ['l2_decay', 'decay_rate'] },
  { name: 'max_grad_norm', not: ['clip_norm', 'grad_clip', 'clip_grad_norm', 'max_norm'] },
  { name: 'gamma', not: ['visual_weight', 'gamma_visual'] },
  { name: 'lambda', not: ['kl_mix', 'forward_share'] },
  { name: 'kl_reduction', not: ['kl_mode', 'kl_reduce'] },
  { name: 'dropout', not: ['drop_rate', 'dropout_rate', 'dropout_prob'] },
  { name: 'logprobs (of tokens), logps (sums over a sequence)', not: ['log_probs', 'log_likelihoods', 'logp_sum'] },
  { name: 'hidden', not: ['hidden_state', 'hiddens'] },
  { name: 'lesion-noise, image-noise', not: ['lesion_noise', 'whole_image_noise', 'global_noise'] },
  { name: 'key_env', not: ['token_env'] },
  { name: 'image_root', not: ['image_folder', 'images_root', 'image_dir'] },
]

const folders = ['src', 'native', 'cuda', 'models', 'bench/gpu', 'test/native', 'test/cuda', 'test/ops', 'test/simt']
const sources = /\.(ts|h|cpp|cu|cuh|yaml)$/

const camel = (word) => word.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())

/** @returns {string[]} one `file:line: message` per offence */
export function findOffences(root) {
  const words = names.flatMap(({ name, not, except = /^$/ }) =>
    not.map((word) => ({ name, word, except, pattern: new RegExp(`(?<![\\w-])(${word}|${camel(word)})(?![\\w-])`) })),
  )
  return folders.flatMap((folder) =>
    filesUnder(join(root, folder), sources).flatMap((file) => {
      const path = `${folder}/${file}`
      return readFileSync(join(root, path), 'utf8')
        .split('\n')
        .flatMap((line, index) =>
          words
            .filter(({ pattern, except }) => pattern.test(line) && !except.test(path))
            .map(({ name, word }) => `${path}:${index + 1}: "${word}" is called ${name} here`),
        )
    }),
  )
}

runLint(import.meta.url, findOffences, 'names', 'one a concept')
