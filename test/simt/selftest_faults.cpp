// One fault each. The kernels are as short as the fault allows.
#include "simt/selftest.h"

namespace fire::simt::selftest {
namespace {

constexpr int T = 64;  // threads of a block: two warps
constexpr unsigned all_lanes = 0xffffffffu;

/// Runs kernel(y) with one block and compares y[t] with expected(t).
template <class Kernel, class Expected>
Result one_block(Kernel kernel, Expected expected, size_t shared = 0) {
  Array<float> y(T);
  launch(1, T, shared, kernel, y.data());
  bool right = true;
  for (int t = 0; t < T; ++t) right = right && y[size_t(t)] == float(expected(t));
  return {right, y.bits()};
}

/// The same with x[t] = t as the input.
template <class Kernel, class Expected>
Result with_input(Kernel kernel, Expected expected, size_t shared = 0, size_t inputs = T) {
  Array<float> x(inputs), y(T);
  for (size_t i = 0; i < inputs; ++i) x[i] = float(i);
  launch(1, T, shared, kernel, static_cast<const float*>(x.data()), y.data());
  bool right = true;
  for (int t = 0; t < T; ++t) right = right && y[size_t(t)] == float(expected(t));
  return {right, y.bits()};
}

int zero(int) { return 0; }
int same(int t) { return t; }
int mirrored(int t) { return T - 1 - t; }

// --- barriers --------------------

__global__ void missing_barrier(float* y) {
  SHARED(float, s, T);
  const int t = int(threadIdx.x);
  s[t] = float(t);
  y[t] = t == 0 ? 0.0f : s[t - 1];
}

__global__ void missing_second_barrier(float* y) {
  SHARED(float, s, T);
  const int t = int(threadIdx.x);
  float sum = 0;
  for (int round = 0; round < 3; ++round) {
    s[t] = float(t + round);
    __syncthreads();
    sum += s[(t + 1) % T];
  }
  y[t] = sum;
}
int of_second_barrier(int t) { return 3 * ((t + 1) % T) + 3; }

__global__ void missing_barrier_in_global_memory(float* y) {
  const int t = int(threadIdx.x);
  y[t] = float(t);
  const float other = y[T - 1 - t];
  __syncthreads();
  y[t] = other;
}

__global__ void divergent_barrier(float* y) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
  y[threadIdx.x] = 0;
}

__global__ void barrier_skipped_by_a_warp(float* y) {
  if (threadIdx.x < 32) __syncthreads();
  y[threadIdx.x] = 0;
}

__global__ void barrier_skipped_by_a_thread(float* y) {
  y[threadIdx.x] = 0;
  if (threadIdx.x == 5) return;
  __syncthreads();
}

__global__ void one_barrier_more(float* y) {
  for (unsigned i = 0; i <= threadIdx.x / 32; ++i) __syncthreads();
  y[threadIdx.x] = 0;
}

__global__ void deadlock(float* y) {
  if (threadIdx.x % 32 < 16)
    __syncthreads();
  else
    __syncwarp();
  y[threadIdx.x] = 0;
}

// --- warps --------------------

__global__ void full_mask_in_divergent_code(float* y) {
  float v = 0;
  if (threadIdx.x % 32 < 16) v = __shfl_xor_sync(all_lanes, v, 1);
  y[threadIdx.x] = v;
}

__global__ void exited_lane(float* y) {
  y[threadIdx.x] = 0;
  if (threadIdx.x % 32 == 31) return;
  y[threadIdx.x] = __shfl_down_sync(all_lanes, 0.0f, 1);
}

__global__ void not_in_own_mask(float* y) { y[threadIdx.x] = __shfl_sync(0xffffu, 0.0f, 0); }

__global__ void lane_beyond_the_block(float* y) {
  if (threadIdx.x < 48) y[threadIdx.x] = __shfl_sync(all_lanes, 0.0f, 0);
}

__global__ void lane_outside_the_mask(float* y) {
  float v = 0;
  if (threadIdx.x % 32 < 16) v = __shfl_down_sync(0xffffu, v, 1);
  y[threadIdx.x] = v;
}

__global__ void mismatched_operations(float* y) {
  float v = 0;
  v = threadIdx.x % 2 == 0 ? __shfl_xor_sync(all_lanes, v, 1) : __shfl_down_sync(all_lanes, v, 1);
  y[threadIdx.x] = v;
}

__global__ void mismatched_masks(float* y) {
  __syncwarp(threadIdx.x % 32 < 8 ? 0xffffu : all_lanes);
  y[threadIdx.x] = 0;
}

__global__ void odd_width(float* y) { y[threadIdx.x] = __shfl_xor_sync(all_lanes, 0.0f, 1, 12); }

__global__ void missing_syncwarp(float* y) {
  SHARED(float, s, T);
  const int t = int(threadIdx.x);
  s[t] = float(t);
  y[t] = s[t ^ 31];
}

// A barrier of each half orders nothing between the halves.
__global__ void syncwarp_of_halves(float* y) {
  SHARED(float, s, T);
  const int t = int(threadIdx.x);
  s[t] = float(t);
  __syncwarp(t % 32 < 16 ? 0xffffu : 0xffff0000u);
  y[t] = s[t ^ 16];
}

// A shuffle orders no memory.
__global__ void shuffle_as_barrier(float* y) {
  SHARED(float, s, T);
  const int t = int(threadIdx.x);
  s[t] = float(t);
  const float v = __shfl_xor_sync(all_lanes, 0.0f, 1);
  y[t] = s[t ^ 1] + v;
}
int neighbour(int t) { return t ^ 1; }

// --- cp.async and ldmatrix --------------------

__global__ void copy_without_wait(const float* x, float* y) {
  DYNAMIC_SHARED(bytes);
  float* const s = reinterpret_cast<float*>(bytes);
  const int t = int(threadIdx.x);
  if (t < T / 4) cuda::ptx::cp_async_16(s + 4 * t, x + 4 * t, true);
  cuda::ptx::cp_async_commit();
  __syncthreads();
  y[t] = s[t];
  cuda::ptx::cp_async_wait<0>();
}

__global__ void copy_waited_for_too_little(const float* x, float* y) {
  DYNAMIC_SHARED(bytes);
  float* const s = reinterpret_cast<float*>(bytes);
  const int t = int(threadIdx.x);
  if (t < T / 4) cuda::ptx::cp_async_16(s + 4 * t, x + 4 * t, true);
  cuda::ptx::cp_async_commit();
  cuda::ptx::cp_async_wait<1>();
  __syncthreads();
  y[t] = s[t];
  cuda::ptx::cp_async_wait<0>();
}

__global__ void copy_without_commit(const float* x, float* y) {
  DYNAMIC_SHARED(bytes);
  float* const s = reinterpret_cast<float*>(bytes);
  const int t = int(threadIdx.x);
  if (t < T / 4) cuda::ptx::cp_async_16(s + 4 * t, x + 4 * t, true);
  cuda::ptx::cp_async_wait<0>();
  __syncthreads();
  y[t] = s[t];
}

__global__ void copy_without_barrier(const float* x, float* y) {
  DYNAMIC_SHARED(bytes);
  float* const s = reinterpret_cast<float*>(bytes);
  const int t = int(threadIdx.x);
  if (t < T / 4) cuda::ptx::cp_async_16(s + 4 * t, x + 4 * t, true);
  cuda::ptx::cp_async_commit();
  cuda::ptx::cp_async_wait<0>();
  y[t] = s[T - 1 - t];
}

// The second copy goes where other threads still read the first.
__global__ void copy_over_what_is_read(const float* x, float* y) {
  DYNAMIC_SHARED(bytes);
  float* const s = reinterpret_cast<float*>(bytes);
  const int t = int(threadIdx.x);
  float sum = 0;
  for (int stage = 0; stage < 2; ++stage) {
    if (t < T / 4) cuda::ptx::cp_async_16(s + 4 * t, x + 4 * t + stage * T, true);
    cuda::ptx::cp_async_commit();
    cuda::ptx::cp_async_wait<0>();
    __syncthreads();
    sum += s[T - 1 - t];
  }
  y[t] = sum;
}
int of_both_stages(int t) { return 2 * (T - 1 - t) + T; }

__global__ void copy_misaligned(const float* x, float* y) {
  DYNAMIC_SHARED(bytes);
  cuda::ptx::cp_async_16(bytes, x + 1, true);
  y[threadIdx.x] = 0;
}

__global__ void copy_to_global_memory(const float* x, float* y) { cuda::ptx::cp_async_16(y, x, true); }

__global__ void ldmatrix_misaligned(float* y) {
  DYNAMIC_SHARED(bytes);
  uint32_t r[4];
  cuda::ptx::ldmatrix_x4(r, bytes + 8);
  y[threadIdx.x] = float(r[0]);
}

__global__ void ldmatrix_outside(float* y) {
  DYNAMIC_SHARED(bytes);
  uint32_t r[4];
  cuda::ptx::ldmatrix_x4(r, bytes + threadIdx.x % 32 * 16 + 16);
  y[threadIdx.x] = float(r[0]);
}

__global__ void ldmatrix_without_barrier(float* y) {
  SHARED(uint4, s, T);
  const unsigned t = threadIdx.x;
  s[t] = make_uint4(t, t, t, t);
  uint32_t r[4];
  cuda::ptx::ldmatrix_x4(r, &s[t / 32 * 32 + (t + 1) % 32]);
  y[t] = float(r[0]);
}
int of_ldmatrix(int t) { return t / 32 * 32 + t % 32 / 4 + 1; }

// --- memory --------------------

__global__ void global_read_beyond(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x + 1]; }
int following(int t) { return t + 1; }

__global__ void global_write_beyond(float* y) {
  y[threadIdx.x] = 0;
  if (threadIdx.x == T - 1) y[T] = 1;
}

__global__ void static_shared_read_beyond(const float* x, float* y) {
  SHARED(float, s, T);
  const int t = int(threadIdx.x);
  s[t] = x[t];
  __syncthreads();
  y[t] = s[int(x[t]) + 1];  // an index that no compiler knows
}

__global__ void static_shared_write_beyond(const float* x, float* y) {
  SHARED(float, s, T);
  const int t = int(threadIdx.x);
  s[int(x[t]) + 1] = 1;
  y[t] = x[t];
}

__global__ void dynamic_shared_read_beyond(float* y) {
  DYNAMIC_SHARED(bytes);
  const float* const s = reinterpret_cast<const float*>(bytes);
  y[threadIdx.x] = s[threadIdx.x + 1] == 0 ? 1 : 0;
}

__global__ void dynamic_shared_write_beyond(float* y) {
  DYNAMIC_SHARED(bytes);
  reinterpret_cast<float*>(bytes)[threadIdx.x + 1] = 1;
  y[threadIdx.x] = 0;
}

__global__ void misaligned_vector(const float* x, float* y) {
  const int t = int(threadIdx.x);
  if (t == 0) {
    const float4 v = *reinterpret_cast<const float4*>(x + 1);
    y[0] = v.x + v.y + v.z + v.w;
  } else {
    y[t] = float(t);
  }
}
int of_misaligned(int t) { return t == 0 ? 1 + 2 + 3 + 4 : t; }

__global__ void index_overflow(const float* x, float* y) {
  const int t = int(threadIdx.x);
  const int rows = int(x[1]) << 16, width = int(x[2]) << 16;
  y[t] = x[rows * width + t];
}

__global__ void uninitialised_shared(float* y) {
  SHARED(float, s, T);
  y[threadIdx.x] = s[threadIdx.x];
}

__global__ void output_not_written(float* y) {
  if (threadIdx.x != 7) y[threadIdx.x] = 0;
}

// What the block before left in shared memory.
__global__ void shared_of_another_block(float* y) {
  SHARED(float, s, T);
  if (blockIdx.x == 0)
    s[threadIdx.x] = float(threadIdx.x);
  else
    y[threadIdx.x] = s[threadIdx.x];
}

__global__ void blocks_write_one_address(float* y) { y[threadIdx.x] = float(threadIdx.x); }

Result two_blocks(void (*kernel)(float*)) {
  Array<float> y(T);
  launch(2, T, 0, kernel, y.data());
  bool right = true;
  for (int t = 0; t < T; ++t) right = right && y[size_t(t)] == float(t);
  return {right, y.bits()};
}

Result lane_beyond_the_block_run() {
  Array<float> y(48);
  launch(1, 48, 0, lane_beyond_the_block, y.data());
  return {true, y.bits()};
}

}  // namespace

const std::vector<Planted>& planted_faults() {
  constexpr size_t floats = T * sizeof(float);
  static const std::vector<Planted> all = {
      {"missing_barrier", [] { return one_block(missing_barrier, [](int t) { return t == 0 ? 0 : t - 1; }); }, nullptr,
       lifo | any_order, nullptr, true},
      {"missing_second_barrier", [] { return one_block(missing_second_barrier, of_second_barrier); }, nullptr,
       every_mode, nullptr, true},
      {"missing_barrier_in_global_memory", [] { return one_block(missing_barrier_in_global_memory, mirrored); },
       nullptr, every_mode, nullptr, true},
      {"divergent_barrier", [] { return one_block(divergent_barrier, zero); }, "divergent __syncthreads"},
      {"barrier_skipped_by_a_warp", [] { return one_block(barrier_skipped_by_a_warp, zero); },
       "barrier that not all threads reach"},
      {"barrier_skipped_by_a_thread", [] { return one_block(barrier_skipped_by_a_thread, zero); },
       "barrier that not all threads reach"},
      {"one_barrier_more", [] { return one_block(one_barrier_more, zero); }, "barrier that not all threads reach"},
      {"deadlock", [] { return one_block(deadlock, zero); }, "deadlock: threads 0-15 wait at __syncthreads"},

      {"full_mask_in_divergent_code", [] { return one_block(full_mask_in_divergent_code, zero); },
       "has left the kernel"},
      {"exited_lane", [] { return one_block(exited_lane, zero); }, "has left the kernel"},
      {"not_in_own_mask", [] { return one_block(not_in_own_mask, zero); }, "not in the mask"},
      {"lane_beyond_the_block", lane_beyond_the_block_run, "which the block does not have"},
      {"lane_outside_the_mask", [] { return one_block(lane_outside_the_mask, zero); },
       "reads lane 16, which is not in the mask"},
      {"mismatched_operations", [] { return one_block(mismatched_operations, zero); }, "mismatched warp operations"},
      {"mismatched_masks", [] { return one_block(mismatched_masks, zero); }, "mismatched warp operations"},
      {"odd_width", [] { return one_block(odd_width, zero); }, "not a power of two"},
      {"missing_syncwarp", [] { return one_block(missing_syncwarp, [](int t) { return t ^ 31; }); }, nullptr,
       every_mode, nullptr, true},
      {"syncwarp_of_halves", [] { return one_block(syncwarp_of_halves, [](int t) { return t ^ 16; }); }, nullptr, 0,
       nullptr, true},
      {"shuffle_as_barrier", [] { return one_block(shuffle_as_barrier, neighbour); }, nullptr, 0, nullptr, true},

      {"copy_without_wait", [] { return with_input(copy_without_wait, same, floats); }, nullptr, lazy_modes, nullptr,
       true},
      {"copy_waited_for_too_little", [] { return with_input(copy_waited_for_too_little, same, floats); }, nullptr,
       lazy_modes, nullptr, true},
      {"copy_without_commit", [] { return with_input(copy_without_commit, same, floats); }, "unfinished copies"},
      {"copy_without_barrier", [] { return with_input(copy_without_barrier, mirrored, floats); }, nullptr, every_mode,
       nullptr, true},
      {"copy_over_what_is_read", [] { return with_input(copy_over_what_is_read, of_both_stages, floats, 2 * T); },
       nullptr, every_mode, nullptr, true},
      {"copy_misaligned", [] { return with_input(copy_misaligned, zero, floats); }, "is not 16-byte aligned"},
      {"copy_to_global_memory", [] { return with_input(copy_to_global_memory, zero); },
       "is not in the block's shared memory"},
      {"ldmatrix_misaligned", [] { return one_block(ldmatrix_misaligned, zero, 1024); }, "is not 16-byte aligned"},
      {"ldmatrix_outside", [] { return one_block(ldmatrix_outside, zero, 512); },
       "is not in the block's shared memory"},
      {"ldmatrix_without_barrier", [] { return one_block(ldmatrix_without_barrier, of_ldmatrix); }, nullptr,
       fifo | eager, nullptr, true},

      {"global_read_beyond", [] { return with_input(global_read_beyond, following); }, nullptr, 0,
       "heap-buffer-overflow"},
      {"global_write_beyond", [] { return one_block(global_write_beyond, zero); }, nullptr, 0, "heap-buffer-overflow"},
      {"static_shared_read_beyond", [] { return with_input(static_shared_read_beyond, following); }, nullptr,
       every_mode, "out of bounds"},
      {"static_shared_write_beyond", [] { return with_input(static_shared_write_beyond, same); },
       "shared memory written past its end", 0, "out of bounds"},
      {"dynamic_shared_read_beyond", [] { return one_block(dynamic_shared_read_beyond, zero, floats); }, nullptr, 0,
       "use-after-poison"},
      {"dynamic_shared_write_beyond", [] { return one_block(dynamic_shared_write_beyond, zero, floats); },
       "shared memory written past its end", 0, "use-after-poison"},
      {"misaligned_vector", [] { return with_input(misaligned_vector, of_misaligned); }, nullptr, 0,
       "misaligned address"},
      {"index_overflow", [] { return with_input(index_overflow, same); }, nullptr, 0, "signed integer overflow"},
      {"uninitialised_shared", [] { return one_block(uninitialised_shared, zero); }, nullptr, every_mode},
      {"output_not_written", [] { return one_block(output_not_written, zero); }, nullptr, every_mode},
      {"shared_of_another_block", [] { return two_blocks(shared_of_another_block); }, nullptr, every_mode},
      {"blocks_write_one_address", [] { return two_blocks(blocks_write_one_address); }, nullptr, 0, nullptr, false,
       true},
  };
  return all;
}

}  // namespace fire::simt::selftest
