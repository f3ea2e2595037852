/**
 * Groups of the fake addon: engines of one process that add up their gradients, in order of ranks.
 * @typedef {import('../../src/engine/group.js').GroupSpec} GroupSpec
 */
const { randomBytes } = require('node:crypto')
const { setTimeout: sleep } = require('node:timers/promises')

/** Groups that still wait for ranks, by transport and id. */
const opening = new Map()

class Group {
  constructor(size) {
    this.size = size
    this.ranks = new Map()
    this.opened = deferred()
  }
}

/** One engine's place in its group. `fail` makes an error of the addon. */
class Rank {
  constructor(group, { rank }, fail) {
    this.group = group
    this.rank = rank
    this.fail = fail
    this.aborted = deferred()
    this.reason = null
    /** What this rank gave to sums that are not whole yet. */
    this.given = []
  }

  /** Rejects once this rank was aborted. */
  #unlessAborted(promise) {
    if (this.reason !== null) throw this.fail('RANKS', this.reason)
    return Promise.race([promise, this.aborted.promise])
  }

  /** Waits for all ranks. `check` throws when the call that waits is cancelled. */
  async join(check) {
    let open = false
    this.group.opened.promise.then(() => {
      open = true
    })
    while (!open) {
      check()
      await this.#unlessAborted(sleep(1))
    }
  }

  /** Adds up in place. */
  async sum(values) {
    const own = deferred()
    this.given.push({ values: Float64Array.from(values), done: own })
    const all = [...this.group.ranks.values()].sort((a, b) => a.rank - b.rank)
    if (all.every(({ given }) => given.length > 0)) {
      const parts = all.map(({ given }) => given.shift())
      const total = parts[0].values.map((_, i) => parts.reduce((sum, part) => sum + part.values[i], 0))
      for (const { done } of parts) done.resolve(total)
    }
    values.set(await this.#unlessAborted(own.promise))
  }

  abort(reason) {
    if (this.reason !== null) return
    this.reason = reason
    this.aborted.reject(this.fail('RANKS', reason))
  }
}

function deferred() {
  const made = {}
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }))
  made.promise.catch(() => {}) // whoever waits for it hears of it
  return made
}

/** Takes a place in the group of this spec; the first that comes makes it. */
function enter(spec, fail) {
  const key = `${spec.transport} ${spec.id}`
  const group = opening.get(key) ?? new Group(spec.size)
  if (group.size !== spec.size || group.ranks.has(spec.rank)) {
    throw fail('RANKS', `rank ${spec.rank} of ${spec.size} has no place in a group of ${group.size}`)
  }
  const rank = new Rank(group, spec, fail)
  group.ranks.set(spec.rank, rank)
  if (group.ranks.size < group.size) opening.set(key, group)
  else {
    opening.delete(key)
    group.opened.resolve()
  }
  return rank
}

module.exports = { enter, groupId: () => randomBytes(128).toString('hex') }
