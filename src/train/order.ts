/** The order of pairs: a permutation of each epoch that depends on the seed and the epoch only. */

/** Indices 0..count-1 shuffled (Fisher-Yates over a 32-bit generator, free of modulo bias). */
export function epochOrder(count: number, seed: number, epoch: number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, index) => index)
  const random = generator(seed, epoch)
  for (let last = count - 1; last > 0; last -= 1) {
    const other = below(random, last + 1)
    const kept = order[last]
    order[last] = order[other]
    order[other] = kept
  }
  return order
}

/** Which pairs the optimizer step `step` (from 0) takes; the last step of an epoch may be smaller. */
export function stepIndices(count: number, batchSize: number, seed: number, step: number): Uint32Array {
  const stepsPerEpoch = Math.ceil(count / batchSize)
  const epoch = Math.floor(step / stepsPerEpoch)
  const start = (step % stepsPerEpoch) * batchSize
  return epochOrder(count, seed, epoch).subarray(start, Math.min(start + batchSize, count))
}

function below(random: () => number, limit: number): number {
  const fair = 2 ** 32 - (2 ** 32 % limit)
  let value = random()
  while (value >= fair) value = random()
  return value % limit
}

/** sfc32 (Chris Doty-Humphrey, PractRand), warmed up by twelve rounds. */
function generator(seed: number, stream: number): () => number {
  let a = seed >>> 0
  let b = Math.floor(seed / 2 ** 32) >>> 0
  let c = stream >>> 0
  let counter = 1
  const next = (): number => {
    const value = (((a + b) | 0) + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (((c << 21) | (c >>> 11)) + value) | 0
    return value >>> 0
  }
  for (let round = 0; round < 12; round += 1) next()
  return next
}
