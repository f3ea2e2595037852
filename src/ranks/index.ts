/** `fire-train/ranks`: the processes that a starter began together, for programs of your own under torchrun, srun, mpirun or launch. */

export { type Joined, type JoinOptions, joinRanks } from './join.js'
export { alone, type Neighbours, type Place, type Ranks, type World } from './ranks.js'
export { requireSame } from './same.js'
export { together } from './together.js'
