/** Who says nothing for too long hangs, is stopped, or is cut off. */
import type { Socket } from 'node:net'

const [leastMs, mostMs] = [20, 10_000]

export interface Heartbeat {
  stop(): void
}

/**
 * Calls `beat` several times in `silence` milliseconds, and then `onSilent` for each connection from which nothing came for that long;
 * the other side of it must beat for the same `silence`. Time in which this process itself stood still is no silence of others.
 */
export function startHeartbeat(
  silence: number,
  sockets: () => Iterable<Socket>,
  beat: () => void,
  onSilent: (socket: Socket) => void,
): Heartbeat {
  const every = Math.min(Math.max(silence / 6, leastMs), mostMs)
  const heard = new Map<Socket, { bytes: number; at: number }>()
  let last = performance.now()
  const timer = setInterval(() => {
    const now = performance.now()
    const stood = Math.max(now - last - every, 0)
    last = now
    beat()
    for (const socket of sockets()) {
      const { bytes, at } = heard.get(socket) ?? { bytes: -1, at: now }
      if (socket.bytesRead !== bytes) heard.set(socket, { bytes: socket.bytesRead, at: now })
      else if (now - at - stood > silence) onSilent(socket)
      else heard.set(socket, { bytes, at: at + stood })
    }
  }, every)
  timer.unref()
  return { stop: () => clearInterval(timer) }
}
