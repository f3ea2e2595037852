import { describe, expect, it } from 'vitest'
// @ts-expect-error a plain script without types
import { findMutants } from '../../scripts/simt-mutations.mjs'

const source = `__global__ void k(float* s) {
  load(s);  // not __syncthreads()
  ptx::cp_async_commit();
  ptx::cp_async_wait<Stages - 2>();
  __syncthreads();
  if (warp == 0) __syncwarp(mask);
  use(s);
  __syncthreads();
  use(s);
  __syncthreads();
}
`

describe('barrier mutants', () => {
  const mutants: { file: string; id: string; text: string }[] = findMutants('k.cu', source)

  it('takes out every barrier, commit and wait once, and relaxes every wait once', () => {
    expect(mutants.map(({ id }) => id)).toEqual([
      'k.cu: no ptx::cp_async_commit() after "load(s);"',
      'k.cu: no ptx::cp_async_wait<Stages - 2>() after "ptx::cp_async_commit();"',
      'k.cu: ptx::cp_async_wait<(Stages - 2) + 1>() for ptx::cp_async_wait<Stages - 2>() after "ptx::cp_async_commit();"',
      'k.cu: no __syncthreads() after "ptx::cp_async_wait<Stages - 2>();"',
      'k.cu: no __syncwarp(mask) after "if (warp == 0)"',
      'k.cu: no __syncthreads() after "use(s);"',
      'k.cu: no __syncthreads() after "use(s);" (2)',
    ])
  })

  it('changes one place, to code that still compiles', () => {
    expect(mutants[4]!.text).toBe(source.replace('__syncwarp(mask)', 'static_cast<void>(0)'))
    expect(mutants[2]!.text).toBe(source.replace('wait<Stages - 2>', 'wait<(Stages - 2) + 1>'))
    expect(mutants[6]!.text).toBe(source.replace(/__syncthreads\(\);\n\}/, () => 'static_cast<void>(0);\n}'))
    expect(new Set(mutants.map(({ text }) => text)).size).toBe(mutants.length)
  })

  it('knows what is asynchronous on Hopper', () => {
    const hopper = `
      ptx::fence_mbarrier_init();
      ptx::mbarrier_wait(&full[stage], unsigned(step / kStages) & 1);
      ptx::wgmma_fence();
      multiply();
      ptx::wgmma_wait<0>();
      if (leader(t)) ptx::mbarrier_arrive(&empty[index(stage)]);
      ptx::mbarrier_arrive_expect(&full[stage], bytes);
      ptx::named_barrier_sync(group + 1, 128);
      ptx::tma_store_wait_read<1>();
`
    const ids = findMutants('h.cuh', hopper).map(({ id }: { id: string }) => id.replace(/ after .*/, ''))
    expect(ids).toEqual([
      'h.cuh: no ptx::fence_mbarrier_init()',
      'h.cuh: no ptx::mbarrier_wait(&full[stage], unsigned(step / kStages) & 1)',
      'h.cuh: no ptx::wgmma_fence()',
      'h.cuh: no ptx::wgmma_wait<0>()',
      'h.cuh: ptx::wgmma_wait<(0) + 1>() for ptx::wgmma_wait<0>()',
      'h.cuh: no ptx::mbarrier_arrive(&empty[index(stage)])',
      'h.cuh: no ptx::named_barrier_sync(group + 1, 128)',
      'h.cuh: no ptx::tma_store_wait_read<1>()',
      'h.cuh: ptx::tma_store_wait_read<(1) + 1>() for ptx::tma_store_wait_read<1>()',
    ])
  })
})
