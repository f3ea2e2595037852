/**
 * A group of fake engines in one process: what each of them adds is summed in the order of ranks, so that all get the same bits.
 * @typedef {import('../../src/engine/native.js').GroupSpec} GroupSpec
 */
const { setTimeout: sleep } = require('node:timers/promises')

/** Groups that still wait for members, by id; those of MPI have the id ''. */
const gathering = new Map()
let made = 0

function newGroupId() {
  made += 1
  return `fake group ${made}`
}

class Group {
  constructor(size) {
    this.size = size
    this.members = []
    /** Of the sum under way, by rank. */
    this.values = new Map()
    this.waiting = []
  }

  /** Hands the sum to everybody when the last one has come. */
  give(rank, values) {
    if (this.values.has(rank)) throw new Error(`rank ${rank} comes twice to one sum`)
    this.values.set(rank, Float64Array.from(values))
    return new Promise((resolve, reject) => {
      this.waiting.push({ rank, resolve, reject })
      if (this.values.size < this.size) return
      const sum = new Float64Array(values.length)
      for (let each = 0; each < this.size; each += 1) {
        for (const [index, value] of this.values.get(each).entries()) sum[index] += value
      }
      for (const waiter of this.waiting) waiter.resolve(sum)
      this.values.clear()
      this.waiting.length = 0
    })
  }
}

/** A group as one of its ranks has it. */
class Member {
  constructor(group, rank, fail) {
    Object.assign(this, { group, rank, fail, reason: null, reject: null })
  }

  async sum(values) {
    if (this.reason !== null) throw this.fail('RANKS', this.reason)
    const aborted = new Promise((_, reject) => {
      this.reject = reject
    })
    aborted.catch(() => {})
    return Promise.race([this.group.give(this.rank, values), aborted])
  }

  abort(reason) {
    this.reason ??= reason
    this.reject?.(this.fail('RANKS', this.reason))
  }
}

/** Waits until every rank has come. @param {GroupSpec} spec */
async function joinGroup({ id, rank, size }, cancel, fail) {
  const group = gathering.get(id) ?? new Group(size)
  gathering.set(id, group)
  group.members.push(rank)
  if (group.members.length === size) gathering.delete(id)
  while (group.members.length < size) {
    await sleep(1)
    if (!cancel?.cancelled) continue
    gathering.delete(id)
    throw fail('ABORTED', 'aborted')
  }
  return new Member(group, rank, fail)
}

module.exports = { joinGroup, newGroupId }
