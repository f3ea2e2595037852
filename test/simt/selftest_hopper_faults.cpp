// One fault each with what Hopper has. Most of them are planted in one short pipeline, which is right without them.
#include <cmath>

#include "cuda/hopper.cuh"
#include "simt/selftest.h"

namespace fire::simt::selftest {
namespace {

namespace ptx = cuda::ptx;
using cuda::Swizzle;
using cuda::TensorMap;

enum class Fault {
  none,
  // mbarriers
  no_init_fence,
  init_twice,
  barrier_written_over,
  full_not_initialised,
  stale_parity,
  one_arrival_missing,
  one_arrival_more,
  too_few_bytes,
  too_many_bytes,
  no_full_wait,
  no_empty_wait,
  early_release,
  // loads and stores
  box_misaligned,
  box_outside,
  map_not_encoded,
  load_over_stores,
  no_async_fence,
  async_fence_too_early,
  async_fence_of_one_warp,
  no_store_barrier,
  no_store_commit,
  no_store_wait,
  source_overwritten,
  // wgmma
  no_wgmma_fence,
  sums_read_early,
  waits_for_too_little,
  no_commit,
  sums_written,
  sums_written_after_fence,
  fragments_written_after_fence,
  other_shape,
  warp_missing,
  two_places,
  threads_disagree,
  wrong_swizzle,
  wrong_stride,
  wrong_step,
  wrong_major,
  operand_outside,
  operand_within_pattern,
  base_offset,
};

constexpr int kRows = 64, kColumns = 16, kSlice = 64, kRounds = 3, kDepth = kRounds * kSlice;
constexpr int kLeftBytes = kRows * kSlice * 2, kRightBytes = kColumns * kSlice * 2, kOutBytes = kRows * kColumns * 4;
constexpr int kShared = kLeftBytes + kRightBytes + kOutBytes;

struct Arguments {
  TensorMap x, w, y;
};

// y[64, 16] = x[64, 192] w[16, 192]^T in three slices through one place. Warpgroup 0 loads, warpgroup 1 multiplies.
template <Fault F>
__global__ void __launch_bounds__(256) pipeline(const __grid_constant__ Arguments p) {
  const auto is = [](Fault fault) { return F == fault; };
  DYNAMIC_SHARED(bytes);
  SHARED(uint64_t, full, 1);
  SHARED(uint64_t, empty, 1);
  unsigned char* const out = bytes + kLeftBytes + kRightBytes;
  const int thread = int(threadIdx.x);
  if (thread == 0) {
    if (!is(Fault::full_not_initialised)) ptx::mbarrier_init(full, 1);
    if (is(Fault::init_twice)) ptx::mbarrier_init(full, 1);
    ptx::mbarrier_init(empty, is(Fault::one_arrival_missing) ? 2 : 1);
    if (!is(Fault::no_init_fence)) ptx::fence_mbarrier_init();
    if (is(Fault::barrier_written_over)) full[0] = 0;
  }
  if (is(Fault::load_over_stores)) reinterpret_cast<uint64_t*>(bytes)[thread] = 0;
  __syncthreads();

  if (thread < 128) {
    if (thread != 0) return;
    for (int round = 0; round < kRounds; ++round) {
      if (!is(Fault::no_empty_wait)) ptx::mbarrier_wait(empty, unsigned(round + 1) & 1);
      const int announced = kLeftBytes + kRightBytes + (is(Fault::too_many_bytes) ? 16 : 0) -
                            (is(Fault::too_few_bytes) ? kRightBytes : 0);
      ptx::mbarrier_arrive_expect(full, uint32_t(announced));
      if (is(Fault::one_arrival_more)) ptx::mbarrier_arrive(full);
      const int off = is(Fault::box_misaligned) ? 512 : is(Fault::box_outside) ? kShared - 1024 : 0;
      ptx::tma_load_2d(bytes + off, &p.x, round * kSlice, 0, full);
      ptx::tma_load_2d(bytes + kLeftBytes, &p.w, round * kSlice, 0, full);
    }
    return;
  }

  float sums[kColumns / 2] = {};
  float others[4] = {};
  for (int round = 0; round < kRounds; ++round) {
    if (!is(Fault::no_full_wait)) ptx::mbarrier_wait(full, is(Fault::stale_parity) ? 0u : unsigned(round) & 1);
    if (is(Fault::warp_missing) && thread >= 224) break;
    if (!is(Fault::no_wgmma_fence)) ptx::wgmma_fence();
    if (is(Fault::sums_written_after_fence)) sums[1] += 1;
    uint32_t fragment[4] = {0, 0, 0, uint32_t(round)};
    if (is(Fault::fragments_written_after_fence)) {
      ptx::wgmma<8>(others, fragment, ptx::wgmma_descriptor(bytes + kLeftBytes, 16, 1024, Swizzle::bytes_128), true);
    }
    for (int k = 0; k < kSlice / 16; ++k) {
      const int step = is(Fault::wrong_step) ? 16 : 32;
      const unsigned char* a = bytes + k * step;
      if (is(Fault::operand_within_pattern)) a += 128;
      if (is(Fault::threads_disagree) && thread == 200) a += 32;
      const uint32_t stride = is(Fault::wrong_stride) ? 1024 + 16 : is(Fault::operand_outside) ? 200 << 10 : 1024;
      const Swizzle swizzle = is(Fault::wrong_swizzle) ? Swizzle::none : Swizzle::bytes_128;
      uint64_t from = ptx::wgmma_descriptor(a, 16, stride, swizzle);
      if (is(Fault::base_offset)) from |= uint64_t{1} << 49;
      const uint64_t to = ptx::wgmma_descriptor(bytes + kLeftBytes + k * 32, 16, 1024, Swizzle::bytes_128);
      if (is(Fault::two_places) && thread % 2 == 0)
        ptx::wgmma<kColumns>(sums, from, to, true);
      else
        ptx::wgmma<kColumns, false, F == Fault::wrong_major>(sums, from, to, true);
      if (is(Fault::other_shape)) ptx::wgmma<8>(reinterpret_cast<float(&)[4]>(sums), from, to, true);
    }
    if (!is(Fault::no_commit)) ptx::wgmma_commit();
    if (is(Fault::early_release) && thread == 128) ptx::mbarrier_arrive(empty);
    if (is(Fault::sums_read_early))
      for (int i = 0; i < 4; ++i) others[i] += sums[i] * 0;
    if (is(Fault::sums_written)) sums[0] += 1;
    if (is(Fault::waits_for_too_little))
      ptx::wgmma_wait<1>();
    else
      ptx::wgmma_wait<0>();
    if (!is(Fault::early_release) && thread == 128) ptx::mbarrier_arrive(empty);
  }

  if (is(Fault::async_fence_too_early)) ptx::fence_async_shared();
  for (int i = 0; i < kColumns / 2; ++i) {
    const int row = thread % 128 / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8,
              column = i / 4 * 8 + thread % 4 * 2 + i % 2;
    reinterpret_cast<float*>(out)[row * kColumns + column] = sums[i] + others[i % 4];
  }
  const bool fences = is(Fault::async_fence_of_one_warp)
                          ? thread < 160
                          : !is(Fault::no_async_fence) && !is(Fault::async_fence_too_early);
  if (fences) ptx::fence_async_shared();
  if (!is(Fault::no_store_barrier)) ptx::named_barrier_sync(1, 128);
  if (thread == 128) {
    const TensorMap garbage{};
    ptx::tma_store_2d(is(Fault::map_not_encoded) ? &garbage : &p.y, 0, 0, out);
    if (!is(Fault::no_store_commit)) ptx::tma_store_commit();
    if (is(Fault::source_overwritten)) {
      reinterpret_cast<float*>(out)[3] = 0;
      ptx::fence_async_shared();
    }
    if (!is(Fault::no_store_wait)) ptx::tma_store_wait_read<0>();
  }
}

float value(size_t i) { return float(i * 7 % 11) - 5; }

template <Fault F>
Result run() {
  Array<bf16> x(kRows * kDepth), w(kColumns * kDepth);
  Array<float> y(kRows * kColumns);
  for (size_t i = 0; i < x.size(); ++i) x[i] = to_bf16(value(i));
  for (size_t i = 0; i < w.size(); ++i) w[i] = to_bf16(value(i * i));
  Arguments p{};
  p.x = cuda::encode_tensor_map({x.data(), DType::bf16, kRows, kDepth, kDepth, kRows, kSlice, Swizzle::bytes_128});
  p.w =
      cuda::encode_tensor_map({w.data(), DType::bf16, kColumns, kDepth, kDepth, kColumns, kSlice, Swizzle::bytes_128});
  p.y = cuda::encode_tensor_map({y.data(), DType::f32, kRows, kColumns, kColumns, kRows, kColumns, Swizzle::none});
  launch(1, 256, kShared, pipeline<F>, p);
  bool right = true;
  for (size_t m = 0; m < kRows; ++m)
    for (size_t n = 0; n < kColumns; ++n) {
      float sum = 0;
      for (size_t k = 0; k < kDepth; ++k) sum += to_float(x[m * kDepth + k]) * to_float(w[n * kDepth + k]);
      right = right && y[m * kColumns + n] == sum;
    }
  return {right, y.bits()};
}

// --- two blocks store the same box --------------------

struct StoreArguments {
  TensorMap y;
};

__global__ void store_one_box(const __grid_constant__ StoreArguments p) {
  DYNAMIC_SHARED(bytes);
  reinterpret_cast<float*>(bytes)[threadIdx.x] = float(threadIdx.x);
  ptx::fence_async_shared();
  __syncthreads();
  if (threadIdx.x != 0) return;
  ptx::tma_store_2d(&p.y, 0, 0, bytes);
  ptx::tma_store_commit();
  ptx::tma_store_wait_read<0>();
}

Result blocks_store_one_box() {
  Array<float> y(64);
  const StoreArguments p{cuda::encode_tensor_map({y.data(), DType::f32, 8, 8, 8, 8, 8, Swizzle::none})};
  launch(2, 64, 256, store_one_box, p);
  bool right = true;
  for (size_t i = 0; i < 64; ++i) right = right && y[i] == float(i);
  return {right, y.bits()};
}

// That a store has read shared memory says nothing of what is in global memory.
template <bool Reading>
__global__ void read_what_was_stored(const __grid_constant__ StoreArguments p, const float* stored, float* y) {
  DYNAMIC_SHARED(bytes);
  reinterpret_cast<float*>(bytes)[threadIdx.x] = float(threadIdx.x);
  ptx::fence_async_shared();
  __syncthreads();
  if (threadIdx.x == 0) {
    ptx::tma_store_2d(&p.y, 0, 0, bytes);
    ptx::tma_store_commit();
    if (Reading)
      ptx::tma_store_wait_read<0>();
    else
      ptx::tma_store_wait<0>();
  }
  __syncthreads();
  y[threadIdx.x] = stored[threadIdx.x];
}

template <bool Reading>
Result store_then_read() {
  Array<float> stored(64), y(64);
  for (size_t i = 0; i < 64; ++i) stored[i] = 0;
  const StoreArguments p{cuda::encode_tensor_map({stored.data(), DType::f32, 8, 8, 8, 8, 8, Swizzle::none})};
  launch(1, 64, 256, read_what_was_stored<Reading>, p, stored.data(), y.data());
  bool right = true;
  for (size_t i = 0; i < 64; ++i) right = right && y[i] == float(i) && stored[i] == float(i);
  return {right, y.bits()};
}

// --- barriers, registers, elections by themselves --------------------

template <class Kernel>
Result by_itself(unsigned threads, Kernel kernel) {
  Array<float> y(threads);
  launch(1, threads, 0, kernel, y.data());
  bool right = true;
  for (unsigned t = 0; t < threads; ++t) right = right && y[t] == float(threads - 1 - t);
  return {right, y.bits()};
}

// A shuffle orders no memory.
__global__ void initialised_before_a_shuffle(float* y) {
  SHARED(uint64_t, barrier, 1);
  if (threadIdx.x == 0) ptx::mbarrier_init(barrier, 32);
  y[threadIdx.x] = __shfl_sync(0xffffffffu, float(threadIdx.x), 31 - int(threadIdx.x));
  ptx::mbarrier_arrive(barrier);
  ptx::mbarrier_wait(barrier, 0);
}

__global__ void two_phases_late(float* y) {
  SHARED(uint64_t, barrier, 1);
  if (threadIdx.x == 0) ptx::mbarrier_init(barrier, 1);
  __syncthreads();
  if (threadIdx.x == 0)
    for (int phase = 0; phase < 2; ++phase) ptx::mbarrier_arrive(barrier);
  __syncthreads();
  ptx::mbarrier_wait(barrier, 0);
  y[threadIdx.x] = 0;
}

// What a phase shows are the stores before its arrivals, not those behind.
__global__ void store_after_arrival(float* y) {
  SHARED(uint64_t, barrier, 1);
  SHARED(float, s, 64);
  const int t = int(threadIdx.x);
  if (t == 0) ptx::mbarrier_init(barrier, 64);
  __syncthreads();
  ptx::mbarrier_arrive(barrier);
  s[t] = float(t);
  ptx::mbarrier_wait(barrier, 0);
  y[t] = s[63 - t];
}

__global__ void barrier_in_global_memory(float* y) {
  if (threadIdx.x == 0) ptx::mbarrier_init(reinterpret_cast<uint64_t*>(y), 1);
}

__global__ void named_barrier_for_half(float* y) {
  SHARED(float, s, 128);
  const int t = int(threadIdx.x);
  s[t] = float(t);
  ptx::named_barrier_sync(1 + t / 64, 64);
  y[t] = s[127 - t];
}

__global__ void named_barrier_arrived_too_early(float* y) {
  SHARED(float, s, 64);
  const int t = int(threadIdx.x);
  if (t < 32) {
    ptx::named_barrier_arrive(1, 64);
    s[t] = float(63 - t - 32);
    y[t] = float(63 - t);
  } else {
    ptx::named_barrier_sync(1, 64);
    y[t] = s[t - 32];
  }
}

__global__ void named_barrier_counts(float* y) {
  ptx::named_barrier_sync(1, threadIdx.x < 32 ? 64 : 128);
  y[threadIdx.x] = 0;
}

__global__ void named_barrier_zero(float* y) {
  ptx::named_barrier_sync(0, 64);
  y[threadIdx.x] = 0;
}

__global__ void named_barrier_without_others(float* y) {
  if (threadIdx.x < 32) ptx::named_barrier_sync(7, 64);
  y[threadIdx.x] = 0;
}

// 256 threads have 256 registers each at first: not one is left.
__global__ void more_registers_than_there_are(float* y) {
  if (threadIdx.x < 128)
    ptx::registers_shrink<240>();
  else
    ptx::registers_grow<256>();
  __syncthreads();
  if (threadIdx.x < 128) ptx::registers_grow<248>();
  y[threadIdx.x] = 0;
}

__global__ void registers_the_wrong_way(float* y) {
  ptx::registers_grow<40>();
  y[threadIdx.x] = 0;
}

__global__ void registers_of_a_warp(float* y) {
  if (threadIdx.x < 32) ptx::registers_shrink<40>();
  y[threadIdx.x] = 0;
}

__global__ void election_in_divergent_code(float* y) {
  if (threadIdx.x % 32 < 16 && ptx::elect_one()) y[0] = 1;
}

}  // namespace

Result pipeline_without_fault() { return run<Fault::none>(); }
Result read_after_store() { return store_then_read<false>(); }

const std::vector<Planted>& hopper_faults() {
  constexpr unsigned lazy = lazy_modes;
  static const std::vector<Planted> all = {
      {"no_init_fence", run<Fault::no_init_fence>, "missing fence.mbarrier_init"},
      {"init_twice", run<Fault::init_twice>, "mbarrier.init of one that is in use"},
      {"barrier_written_over", run<Fault::barrier_written_over>, "that something else was written over"},
      {"full_not_initialised", run<Fault::full_not_initialised>, "that is not initialised"},
      {"stale_parity", run<Fault::stale_parity>, "stale parity"},
      {"one_arrival_missing", run<Fault::one_arrival_missing>, "deadlock: threads 0-0 wait at mbarrier"},
      {"one_arrival_more", run<Fault::one_arrival_more>, "more arrivals at an mbarrier than its count"},
      {"too_few_bytes", run<Fault::too_few_bytes>, "too few bytes were announced"},
      {"too_many_bytes", run<Fault::too_many_bytes>, "16 bytes are missing"},
      {"no_full_wait", run<Fault::no_full_wait>, "more arrivals at an mbarrier than its count", eager, nullptr, true,
       false, lazy},
      {"no_empty_wait", run<Fault::no_empty_wait>, "at an mbarrier"},
      {"early_release", run<Fault::early_release>, nullptr, lazy, nullptr, true},

      {"box_misaligned", run<Fault::box_misaligned>, "is not aligned to its swizzle"},
      {"box_outside", run<Fault::box_outside>, "the target of a load of TMA is not in the block's shared memory"},
      {"map_not_encoded", run<Fault::map_not_encoded>, "a TensorMap that encode_tensor_map did not make"},
      {"load_over_stores", run<Fault::load_over_stores>, "missing fence.proxy.async: a load of TMA"},
      {"no_async_fence", run<Fault::no_async_fence>, "missing fence.proxy.async: TMA stores"},
      {"async_fence_too_early", run<Fault::async_fence_too_early>, "missing fence.proxy.async: TMA stores"},
      {"async_fence_of_one_warp", run<Fault::async_fence_of_one_warp>, "missing fence.proxy.async: TMA stores", 0,
       nullptr, false, false, fifo | any_order | eager},
      {"no_store_barrier", run<Fault::no_store_barrier>, nullptr, fifo | any_order | eager, nullptr, true},
      {"no_store_commit", run<Fault::no_store_commit>, "without tma_store_wait_read"},
      {"no_store_wait", run<Fault::no_store_wait>, "without tma_store_wait_read"},
      {"source_overwritten", run<Fault::source_overwritten>, nullptr, lazy},

      {"no_wgmma_fence", run<Fault::no_wgmma_fence>, "missing wgmma.fence"},
      {"sums_read_early", run<Fault::sums_read_early>, nullptr, lazy},
      {"waits_for_too_little", run<Fault::waits_for_too_little>, "without wgmma_wait"},
      {"no_commit", run<Fault::no_commit>, "without wgmma_wait"},
      {"sums_written", run<Fault::sums_written>, "sums were written", eager, nullptr, false, false, lazy},
      {"sums_written_after_fence", run<Fault::sums_written_after_fence>, "between its wgmma.fence and it"},
      {"fragments_written_after_fence", run<Fault::fragments_written_after_fence>, "between its wgmma.fence and it"},
      {"other_shape", run<Fault::other_shape>, "a product of another shape", eager, nullptr, false, false, lazy},
      {"warp_missing", run<Fault::warp_missing>, "an instruction of the warpgroup"},
      {"two_places", run<Fault::two_places>, "at different instructions"},
      {"threads_disagree", run<Fault::threads_disagree>, "disagree on the operands"},
      {"wrong_swizzle", run<Fault::wrong_swizzle>, nullptr, every_mode},
      {"wrong_stride", run<Fault::wrong_stride>, nullptr, every_mode},
      {"wrong_step", run<Fault::wrong_step>, nullptr, every_mode},
      {"wrong_major", run<Fault::wrong_major>, nullptr, every_mode},
      {"operand_outside", run<Fault::operand_outside>, "an operand of wgmma is not in the block's shared memory"},
      {"operand_within_pattern", run<Fault::operand_within_pattern>, "that starts within the swizzle's pattern"},
      {"base_offset", run<Fault::base_offset>, "with a base offset"},

      {"blocks_store_one_box", blocks_store_one_box, nullptr, 0, nullptr, false, true},
      {"read_after_wait_for_reading", store_then_read<true>, nullptr, lazy, nullptr, true},
      {"initialised_before_a_shuffle", [] { return by_itself(32, initialised_before_a_shuffle); }, nullptr, 0, nullptr,
       true},
      {"two_phases_late", [] { return by_itself(64, two_phases_late); }, "too late at an mbarrier"},
      {"store_after_arrival", [] { return by_itself(64, store_after_arrival); }, nullptr, 0, nullptr, true},
      {"barrier_in_global_memory", [] { return by_itself(64, barrier_in_global_memory); },
       "is not in the block's shared memory"},
      {"named_barrier_for_half", [] { return by_itself(128, named_barrier_for_half); }, nullptr, 0, nullptr, true},
      {"named_barrier_arrived_too_early", [] { return by_itself(64, named_barrier_arrived_too_early); }, nullptr, 0,
       nullptr, true},
      {"named_barrier_counts", [] { return by_itself(128, named_barrier_counts); }, "others count other threads"},
      {"named_barrier_zero", [] { return by_itself(64, named_barrier_zero); }, "one of 1 to 15"},
      {"named_barrier_without_others", [] { return by_itself(64, named_barrier_without_others); },
       "threads 0-31 wait at named barrier 7"},
      {"more_registers_than_there_are", [] { return by_itself(256, more_registers_than_there_are); },
       "for registers that nobody gives away"},
      {"registers_the_wrong_way", [] { return by_itself(256, registers_the_wrong_way); }, "setmaxnreg.inc to fewer"},
      {"registers_of_a_warp", [] { return by_itself(256, registers_of_a_warp); }, "an instruction of the warpgroup"},
      {"election_in_divergent_code", [] { return by_itself(64, election_in_divergent_code); }, "elect.sync"},
  };
  return all;
}

}  // namespace fire::simt::selftest
