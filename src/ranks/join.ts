/** From the environment to the ranks of this run. */
import { type Environment, meetingOf, patienceOf, secretOf, worldOf } from './environment.js'
import { Member } from './member.js'
import { alone, type Ranks } from './ranks.js'
import { Store } from './store.js'

/** Ranks that have met. */
export interface Joined extends Ranks {
  /** Asks every other rank to stop in order, as this signal would. */
  askToStop(signal: NodeJS.Signals): void
}

/** Where ranks are looked for, and who is told. */
export interface JoinOptions {
  env?: Environment
  /** Ends the waiting for the others. */
  signal?: AbortSignal
  /** What a person should know: who was refused at the door, and why. */
  onLog?(line: string): void
  /** Another rank or the launcher asks all of them to stop, as this signal would. */
  onStop?(signal: NodeJS.Signals, isUrgent: boolean): void
}

/** After a failure the others are told, and then not waited for. */
const farewellMs = 3000

/**
 * Waits until all ranks that were started together are there. A process alone opens no socket.
 * @throws {RankError} when the environment is wrong, or the ranks do not all come. @throws {AbortedError}
 */
export async function joinRanks(options: JoinOptions = {}): Promise<Joined> {
  const { env = process.env, signal, onLog = () => {} } = options
  const started = worldOf(env)
  if (started === null || started.size === 1) {
    return { ...alone, askToStop() {} }
  }
  const [meeting, secret, patience] = [meetingOf(env, started), secretOf(env, started), patienceOf(env)]
  const joining = { ...options, started, meeting, secret, patience }
  if (meeting.isOpen || started.rank > 0) return await Member.join(joining)
  const { host, port } = meeting
  const store = await Store.open({ host, port, size: started.size, secret, patience, keeper: 'rank 0', signal, onLog })
  try {
    return withStore(await Member.join(joining), store)
  } catch (error) {
    await store.close()
    throw error
  }
}

/** Rank 0 keeps the store until the others have left too. */
function withStore(member: Member, store: Store): Joined {
  const { rank, size, signal } = member
  return {
    ...{ rank, size, signal },
    gather: (what, value) => member.gather(what, value),
    get isStopping() {
      return member.isStopping
    },
    askToStop: (name) => member.askToStop(name),
    async fail(error) {
      await member.fail(error)
      await farewell(store)
    },
    async close() {
      await member.close()
      await (signal.aborted ? farewell(store) : store.emptied())
      await store.close()
    },
  }
}

async function farewell(store: Store): Promise<void> {
  const timer = new Promise((resolve) => setTimeout(resolve, farewellMs).unref())
  await Promise.race([store.emptied(), timer])
  await store.close()
}
