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

  it('knows the barriers of Hopper', () => {
    const kernel = `__global__ void k() {
  ptx::mbarrier_init(full, 1);
  ptx::fence_mbarrier_init();
  ptx::mbarrier_wait(full + i, parity ^ 1);
  ptx::wgmma_wait<1>();
  if (lane == 0) ptx::mbarrier_arrive(empty + i);
}
`
    expect(findMutants('k.cu', kernel).map(({ id }: { id: string }) => id)).toEqual([
      'k.cu: no ptx::fence_mbarrier_init() after "ptx::mbarrier_init(full, 1);"',
      'k.cu: no ptx::mbarrier_wait(full + i, parity ^ 1) after "ptx::fence_mbarrier_init();"',
      'k.cu: no ptx::wgmma_wait<1>() after "ptx::mbarrier_wait(full + i, parity ^ 1);"',
      'k.cu: ptx::wgmma_wait<(1) + 1>() for ptx::wgmma_wait<1>() after "ptx::mbarrier_wait(full + i, parity ^ 1);"',
      'k.cu: no ptx::mbarrier_arrive(empty + i) after "if (lane == 0)"',
    ])
  })
})
