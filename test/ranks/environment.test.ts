import { describe, expect, it } from 'vitest'
import { RankError } from '../../src/errors.js'
import {
  type Environment,
  firstHost,
  meetingOf,
  patienceOf,
  rankIn,
  type Started,
  secretOf,
  worldOf,
} from '../../src/ranks/environment.js'

const meeting = (env: Environment) => meetingOf(env, worldOf(env) as Started)

const torchrun = {
  RANK: '3',
  WORLD_SIZE: '4',
  LOCAL_RANK: '1',
  MASTER_ADDR: 'node0',
  MASTER_PORT: '29500',
  TORCHELASTIC_RUN_ID: 'none',
  TORCHELASTIC_USE_AGENT_STORE: 'True',
}
const mpirun = {
  OMPI_COMM_WORLD_RANK: '1',
  OMPI_COMM_WORLD_SIZE: '2',
  OMPI_COMM_WORLD_LOCAL_RANK: '1',
  OMPI_COMM_WORLD_LOCAL_SIZE: '2',
  PMIX_NAMESPACE: '2334720001',
}
const hydra = {
  PMI_RANK: '0',
  PMI_SIZE: '2',
  MPI_LOCALRANKID: '0',
  MPI_LOCALNRANKS: '2',
  PMI_ID: '0',
  MASTER_PORT: '5',
}
const srun = {
  SLURM_PROCID: '5',
  SLURM_NTASKS: '8',
  SLURM_STEP_NUM_TASKS: '8',
  SLURM_LOCALID: '1',
  SLURM_JOB_ID: '4711',
  SLURM_STEP_ID: '0',
  SLURM_JOB_NODELIST: 'gpu[07-08,11],login',
  SLURM_STEP_NODELIST: 'gpu[08,11]',
}

describe('the world of a process', () => {
  it('is alone where no starter says otherwise', () => {
    expect(worldOf({})).toBeNull()
    expect(worldOf({ RANK: '', WORLD_SIZE: '', HOME: '/root' })).toBeNull()
    expect(rankIn({})).toBe(0)
  })

  it('is that of torchrun, mpirun and srun as they say it', () => {
    expect(worldOf(torchrun)).toEqual({ rank: 3, size: 4, starter: 'torchrun' })
    expect(worldOf(mpirun)).toEqual({ rank: 1, size: 2, starter: 'mpirun' })
    expect(worldOf(hydra)).toEqual({ rank: 0, size: 2, starter: 'mpirun' })
    expect(worldOf(srun)).toEqual({ rank: 5, size: 8, starter: 'srun' })
    expect(rankIn(srun)).toBe(5)
  })

  it('leaves the place on the machine open where nobody says it, as in an indexed Job', () => {
    expect(worldOf({ RANK: '1', WORLD_SIZE: '2' })).toMatchObject({ rank: 1, size: 2 })
  })

  it('is one process in the script of sbatch, which has the number of tasks too', () => {
    const { SLURM_STEP_NUM_TASKS: _, ...batch } = { ...srun, SLURM_PROCID: '0', SLURM_LOCALID: '0' }
    expect(worldOf(batch)).toBeNull()
  })

  it('is that of torchrun where srun or mpirun started one torchrun on each machine', () => {
    expect(worldOf({ ...srun, ...torchrun })).toMatchObject({ rank: 3, size: 4 })
    expect(worldOf({ ...mpirun, ...torchrun })).toMatchObject({ rank: 3, size: 4 })
    expect(worldOf({ ...srun, FIRE_STORE: '127.0.0.1:5', RANK: '1', WORLD_SIZE: '2' })).toMatchObject({ size: 2 })
  })

  it('takes a number of ranks that a script exports beside srun', () => {
    expect(worldOf({ ...srun, WORLD_SIZE: '8', MASTER_ADDR: 'a' })).toMatchObject({ rank: 5, starter: 'srun' })
  })

  it.each([
    [{ RANK: '0' }, /^RANK is set and WORLD_SIZE is not/],
    [{ WORLD_SIZE: '4' }, /^WORLD_SIZE is set and RANK is not/],
    [{ OMPI_COMM_WORLD_RANK: '0' }, /OMPI_COMM_WORLD_SIZE is not/],
    [{ RANK: '4', WORLD_SIZE: '4' }, /ranks count from 0 to 3/],
    [{ RANK: '-1', WORLD_SIZE: '4' }, /RANK is '-1', which is no whole number/],
    [{ RANK: '1.5', WORLD_SIZE: '4' }, /RANK is '1.5'/],
    [{ ...mpirun, RANK: '0', WORLD_SIZE: '2' }, /^RANK=0 WORLD_SIZE=2 contradicts OMPI_COMM_WORLD_RANK=1/],
    [{ ...srun, WORLD_SIZE: '16' }, /^WORLD_SIZE=16 contradicts SLURM_STEP_NUM_TASKS=8/],
  ])('is refused where the environment cannot be right: %j', (env, message) => {
    expect(() => worldOf(env)).toThrow(message)
    expect(() => worldOf(env)).toThrow(RankError)
    expect(rankIn(env)).toBe(0)
  })
})

describe('where the ranks meet', () => {
  it('is beside the store that the agent of torchrun keeps', () => {
    expect(meeting(torchrun)).toEqual({ host: 'node0', port: 29501, isOpen: false })
    expect(meeting({ ...torchrun, TORCHELASTIC_USE_AGENT_STORE: 'False' }).port).toBe(29500)
    expect(meeting({ ...torchrun, FIRE_STORE_PORT: '7000' }).port).toBe(7000)
  })

  it('is the first machine of the step of srun, at a port of the job', () => {
    const { host, port } = meeting(srun)
    expect(host).toBe('gpu08')
    expect(port).toBeGreaterThanOrEqual(16384)
    expect(port).toBeLessThan(32768)
    expect(meeting({ ...srun, SLURM_PROCID: '0' }).port).toBe(port)
    expect(meeting({ ...srun, SLURM_JOB_ID: '4712' }).port).not.toBe(port)
    expect(meeting({ ...srun, MASTER_ADDR: '10.0.0.1', MASTER_PORT: '80' })).toMatchObject({
      host: '10.0.0.1',
      port: 80,
    })
  })

  it('is the first machine of the step where srun serves MPICH', () => {
    const served = { ...srun, PMI_RANK: '5', PMI_SIZE: '8' }
    expect(worldOf(served)).toEqual(worldOf(srun))
    expect(meeting(served)).toEqual(meeting(srun))
    // What mpirun starts on other machines, it starts by srun: one task a machine, which is no rank.
    const started = { ...srun, SLURM_PROCID: '1', SLURM_STEP_NUM_TASKS: '2', PMI_RANK: '5', PMI_SIZE: '8' }
    expect(worldOf(started)).toMatchObject({ rank: 5, size: 8, starter: 'mpirun' })
    expect(worldOf({ ...served, ...torchrun })).toMatchObject({ rank: 3, starter: 'torchrun' })
  })

  it('is this machine where mpirun started all ranks on it', () => {
    expect(meeting(mpirun)).toMatchObject({ host: '127.0.0.1', isOpen: false })
    expect(meeting(hydra)).toMatchObject({ host: '127.0.0.1', port: 5 })
    // PMI_ID is a rank by another name: from it each rank would have another port.
    expect(() => meeting({ ...hydra, MASTER_PORT: undefined })).toThrow(/MASTER_PORT is not set/)
    const ports = [0, 1].map((rank) => {
      const own = { PMI_RANK: `${rank}`, PMI_ID: `${rank}`, MASTER_PORT: undefined, SLURM_JOB_ID: '4711' }
      return meeting({ ...hydra, ...own }).port
    })
    expect(ports[0]).toBe(ports[1])
    const two = { ...mpirun, OMPI_COMM_WORLD_LOCAL_SIZE: '1' }
    expect(() => meeting(two)).toThrow(/MASTER_ADDR is not set/)
    expect(meeting({ ...two, SLURM_JOB_NODELIST: 'a[1-2]' }).host).toBe('a1')
  })

  it('is that of the launcher where there is one', () => {
    expect(meeting({ ...torchrun, FIRE_STORE: '127.0.0.1:4000' })).toEqual({
      host: '127.0.0.1',
      port: 4000,
      isOpen: true,
    })
    expect(meeting({ ...torchrun, FIRE_STORE: '[::1]:4000' })).toMatchObject({ host: '::1', port: 4000 })
    expect(() => meeting({ ...torchrun, FIRE_STORE: 'here' })).toThrow(/FIRE_STORE is 'here'/)
  })

  it.each([
    [{ RANK: '0', WORLD_SIZE: '2' }, /MASTER_ADDR is not set/],
    [{ RANK: '0', WORLD_SIZE: '2', MASTER_ADDR: 'a' }, /MASTER_PORT is not set/],
    [{ RANK: '0', WORLD_SIZE: '2', MASTER_ADDR: 'a', MASTER_PORT: '70000' }, /MASTER_PORT is 70000, which is no port/],
  ])('is not guessed: %j', (env, message) => {
    expect(() => meeting(env)).toThrow(message)
  })

  it('reads lists of machines as Slurm writes them', () => {
    expect(firstHost('node1')).toBe('node1')
    expect(firstHost('a,b[1-2]')).toBe('a')
    expect(firstHost('gpu[07-08,11],login')).toBe('gpu07')
    expect(firstHost('rack[0-1]node[003,5]-ib,x')).toBe('rack0node003-ib')
  })
})

describe('the secret', () => {
  const started = worldOf(torchrun) as Started

  it('must be there, and long', () => {
    expect(() => secretOf({}, started)).toThrow(/FIRE_SECRET is not set/)
    expect(() => secretOf({ FIRE_SECRET: 'short' }, started)).toThrow(/shorter than 16/)
    expect(secretOf({ FIRE_SECRET: '0123456789abcdef' }, started)).toBe('0123456789abcdef')
  })

  it('is in no message', () => {
    const env = { FIRE_SECRET: 'only-fifteen-ch' }
    expect(() => secretOf(env, started)).toThrow(expect.not.objectContaining({ message: /only/ }))
  })
})

it('patience is in seconds', () => {
  expect(patienceOf({})).toEqual({ joining: 300_000, silence: 60_000 })
  expect(patienceOf({ FIRE_RANK_TIMEOUT: '0.5', FIRE_JOIN_TIMEOUT: '2' })).toEqual({ joining: 2000, silence: 500 })
  expect(() => patienceOf({ FIRE_RANK_TIMEOUT: 'soon' })).toThrow(/FIRE_RANK_TIMEOUT is 'soon'/)
})
