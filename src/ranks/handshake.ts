/**
 * Two processes prove to one another that they know the secret of the run, without saying it: each signs what both have drawn.
 * What follows is neither signed nor encrypted: the network between the ranks has to be a private one.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { RankError } from '../errors.js'
import type { Message } from './frames.js'

/** A program that speaks otherwise is another version. */
const protocol = 'fire-train ranks 1'

/** One side of a connection whose other side is not known yet. */
export interface Talk {
  send(message: Message): void
  /** `undefined` when the other side has ended. */
  receive(): Promise<Message | undefined>
}

type Side = 'rank' | 'store'

/** @returns whether the other side was there and is the store of this run; `false`: it ended without a word. @throws {RankError} */
export async function introduce({ send, receive }: Talk, secret: string, rank: number): Promise<boolean> {
  const mine = draw()
  send({ protocol, rank, draw: mine })
  const answer = await receive()
  if (answer === undefined) return false
  refuseRefusal(answer)
  const drawn: Drawn = { rank, mine, theirs: textOf(answer.draw) }
  send({ proof: proofOf(secret, 'rank', drawn) })
  const welcome = await receive()
  if (welcome === undefined) return false
  refuseRefusal(welcome)
  if (!isProof(welcome.proof, proofOf(secret, 'store', drawn))) {
    throw new RankError('what listens there does not know the secret of this run (FIRE_SECRET)')
  }
  return true
}

/** @returns the rank that the other side is. @throws {RankError} saying why it is none, after it was told. */
export async function examine({ send, receive }: Talk, secret: string): Promise<number> {
  const refuse = (said: string, told = said): never => {
    send({ refused: told })
    throw new RankError(said)
  }
  const hello = (await receive()) ?? {}
  const rank = Number(hello.rank)
  if (typeof hello.protocol !== 'string' || !Number.isSafeInteger(rank)) throw new RankError('it is no rank')
  if (hello.protocol !== protocol) {
    return refuse(
      `it calls itself rank ${rank} and is of another version of fire-train`,
      'it is of another version of fire-train than this rank',
    )
  }
  const theirs = draw()
  send({ draw: theirs })
  const drawn: Drawn = { rank, mine: textOf(hello.draw), theirs }
  const { proof } = (await receive()) ?? {}
  if (!isProof(proof, proofOf(secret, 'rank', drawn))) {
    return refuse(
      `it calls itself rank ${rank} and has another secret`,
      'the secret of this rank (FIRE_SECRET) is another one than there',
    )
  }
  send({ proof: proofOf(secret, 'store', drawn) })
  return rank
}

/** What each side has drawn, `mine` by the one that is a rank. */
interface Drawn {
  rank: number
  mine: string
  theirs: string
}

const draw = (): string => randomBytes(32).toString('hex')

const proofOf = (secret: string, side: Side, { rank, mine, theirs }: Drawn): string =>
  createHmac('sha256', secret)
    .update(JSON.stringify([protocol, side, rank, mine, theirs]))
    .digest('hex')

function isProof(given: unknown, right: string): boolean {
  const [one, other] = [Buffer.from(textOf(given)), Buffer.from(right)]
  return one.length === other.length && timingSafeEqual(one, other)
}

function refuseRefusal({ refused }: Message): void {
  if (typeof refused === 'string') throw new RankError(refused)
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')
