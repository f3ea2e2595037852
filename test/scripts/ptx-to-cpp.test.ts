import { describe, expect, it } from 'vitest'
// @ts-expect-error a plain script without types
import { findBranches, findInstructions, findSwaps } from '../../scripts/ptx-mutations.mjs'
// @ts-expect-error a plain script without types
import { plainName, translate } from '../../scripts/ptx-to-cpp.mjs'

/** PTX of one kernel with these statements; the first one is on line 13. */
function kernel(...statements: string[]): string {
  return `.version 9.0
.target sm_90a
.address_size 64
.extern .shared .align 1024 .b8 dynamic[];
.entry kernel(
	.param .u64 kernel_param_0,
	.param .align 8 .b8 kernel_param_1[24]
)
{
	.reg .pred 	%p<9>; .reg .b16 %rs<9>; .reg .f32 %f<99>;
	.reg .b32 	%r<99>; .reg .b64 %rd<99>; .reg .f64 %fd<9>;
	.loc	1 7 3
${statements.join('\n')}
}
	.file	1 "/somewhere/kernel.cu"
`
}

const cpp = (...statements: string[]): string => translate(kernel(...statements)).join('\n')
const body = (...statements: string[]): string =>
  cpp(...statements)
    .split('#line 7 "/somewhere/kernel.cu"\n')[1]!
    .split('\n}')[0]!
    .trim()

describe('PTX to C++', () => {
  it('translates what nvcc writes', () => {
    expect(body('add.s32 %r1, %r2, -1;')).toBe('vr1 = vr2 + 4294967295u;')
    expect(body('setp.lt.s32 %p1, %r2, %r3;')).toBe('vp1 = s32(vr2) < s32(vr3);')
    expect(body('@!%p1 mul.wide.s32 %rd1, %r2, 4;')).toBe('if (!vp1) { vrd1 = s64(s32(vr2)) * s64(s32(4u)); }')
    expect(body('shr.s32 %r1, %r2, 31;')).toBe('vr1 = s32(vr2) >> 31u;')
    expect(body('mov.f32 %f1, 0f3FC00000;')).toBe('vf1 = 1.5f;')
    expect(body('mov.b32 %r1, %f1;')).toBe('vr1 = u32(bits(vf1));')
    expect(body('ld.param.f32 %f1, [kernel_param_1+8];')).toBe('vf1 = load<f32>(address(parameters[1]) + 8ull);')
    expect(body('st.shared.u16 [%r1+2], %rs1;')).toBe('store<u16>(shared(vr1 + 2u), vrs1);')
    expect(body('mov.u32 %r1, dynamic;')).toBe('vr1 = u32(dynamic());')
    expect(body('cvt.s64.s32 %rd1, %r1;')).toBe('vrd1 = s64(s32(vr1));')
    expect(body('setp.neu.f32 %p1, %f1, %f2;')).toBe('vp1 = vf1 != vf2 || unordered(vf1, vf2);')
  })

  it('names the line of what it does not know', () => {
    const refused = (statement: string): string => {
      try {
        return cpp('mov.u32 %r1, 1;', statement)
      } catch (error) {
        return (error as Error).message
      }
    }
    expect(refused('add.sat.s32 %r1, %r2, %r3;')).toBe('PTX line 14: the instruction add.sat.s32 is not known')
    expect(refused('frobnicate.b32 %r1;')).toBe('PTX line 14: the instruction frobnicate.b32 is not known')
    expect(refused('ld.weak.shared.u32 %r1, [%r2];')).toMatch('ld.weak.shared.u32 is not known')
    expect(refused('ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r1, %r2}, [%r3];')).toMatch('is not known')
    expect(refused('mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f1}, {%r1}, {%r2}, {%f1};')).toMatch(
      'not known',
    )
    expect(refused('add.s32 %r1, %r2, %rd3;')).toMatch('PTX line 14: vrd3 has 64 bits, not 32')
    expect(refused('add.f32 %f1, %f2, %r3x;')).toMatch('PTX line 14: %r3x is not known')
    expect(refused('mov.u32 %r1, %clock;')).toMatch('%clock is not known')
    expect(refused('bra $nowhere;')).toMatch('$nowhere is no label')
    expect(refused('.reg .b128 %q<2>;')).toMatch('registers of an unknown type')
    expect(refused('cp.async.cg.shared.global [%r1], [%rd1], 8;')).toMatch('16 bytes expected')
    expect(refused('elect.sync _|%p1, 1;')).toMatch('only of whole warps')
  })

  it('keeps what inline assembly declares apart', () => {
    const wait = (address: string): string => `{
.reg .pred done;
again:
mbarrier.try_wait.parity.shared::cta.b64 done, [${address}], 0;
@!done bra again;
}`
    const text = body(wait('%r1'), wait('%r2'))
    expect(text).toMatch(
      /label_again_1:;[\s\S]*vdone_1 = simt::mbarrier_try_wait\([^;]*;[\s\S]*if \(!vdone_1\) \{ goto label_again_1; \}/,
    )
    expect(text).toMatch(/label_again_2:;[\s\S]*shared\(vr2\)[\s\S]*goto label_again_2/)
  })

  it('keeps the sums of a wgmma in one place', () => {
    const product = (sums: string): string =>
      `wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {${sums}}, %rd1, %rd2, %p1, 1, 1, 0, 1;`
    const same = '%f1, %f2, %f3, %f4'
    expect(body(product(same), 'mov.f32 %f9, %f3;', product(same))).toBe(
      ['fire::WGMMA', '  vf9 = sums_0[2];', 'fire::WGMMA']
        .join('\n')
        .replaceAll(
          'fire::WGMMA',
          'simt::wgmma_issue({sums_0, nullptr, vrd1, vrd2, 8, false, true, vp1}, __FILE__, __LINE__);',
        )
        .replace(/\nsimt/, '\n  simt'),
    )
    expect(() => body(product(same), product('%f2, %f1, %f3, %f4'))).toThrow('sums that are part of the sums')
  })

  it('and its factors that are in registers', () => {
    const product = (a: string): string =>
      `wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f1, %f2, %f3, %f4}, {${a}}, %rd2, %p1, 1, 1, 1;`
    expect(body('mov.u32 %r3, 7;', product('%r1, %r2, %r3, %r4'))).toBe(
      [
        'factors_1[2] = 7u;',
        '  simt::wgmma_issue({sums_0, factors_1, 0, vrd2, 8, false, true, vp1}, __FILE__, __LINE__);',
      ].join('\n'),
    )
    expect(() => body(product('%r1, %r2, %r3, %r4'), product('%r1, %r2, %r3, %r5'))).toThrow('factors that are part')
  })

  it('undoes what nvcc does to names of unnamed namespaces', () => {
    const nvcc =
      '_ZN4fire4cuda9attention54_GLOBAL__N__b54ddda4_21_attention_backward_cu_8a1f1b1512delta_kernelIfLi8ELb1EEEvPKT_S6_Pfli'
    expect(plainName(nvcc)).toBe('_ZN4fire4cuda9attention12_GLOBAL__N_112delta_kernelIfLi8ELb1EEEvPKT_S6_Pfli')
    expect(plainName('_Z1kf')).toBe('_Z1kf')
  })
})

describe('exchanged operands', () => {
  it('are neighbours of the same constraint', () => {
    const source = `asm volatile("one.b32 %0, %1, %2, %3;\\n" : "=r"(d) : "r"(f(a)), "r"(b), "l"(c) : "memory");\n`
    expect(findSwaps('x.cuh', source)).toEqual([
      {
        id: 'x.cuh: f(a) and b exchanged in one.b32',
        text: source.replace('"r"(f(a)), "r"(b)', '"r"(b), "r"(f(a))'),
        last: true,
      },
    ])
  })

  it('are not all: a copy without its branch back asks once', () => {
    const source =
      'asm volatile(\n"again:\\n"\n"try_wait.b64 done, [%0];\\n"\n"@!done bra again;\\n"\n"}\\n" ::"r"(a));'
    expect(findBranches('x.cuh', source)).toEqual([
      { id: 'x.cuh: no branch in try_wait.b64', text: source.replace('\n"@!done bra again;\\n"', ''), last: true },
    ])
  })

  it('belong to instructions that are listed', () => {
    const source = `asm("{\n.reg .pred p;\nsetp.ne.b32 p, %0, 0;\n@p two.x::y.z" TAIL " %0;\n}" :: "r"(a));
f.g(x);`
    expect(findInstructions(source)).toEqual(['setp.ne.b32', 'two.x::y.z'])
  })
})
