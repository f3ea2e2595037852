// What the inline parts of device.h and ptx.h need from the emulator: C++17, no standard library beyond <cstdint>, for
// every kernel source includes it. Tests use emulator.h.
//
// `file` and `line` name the kernel's source line of a collective; they come from default arguments of the callers.
#pragma once

#include <cstddef>
#include <cstdint>

// A function of the emulator itself: its accesses are not the kernel's, no sanitizer may see them.
#define SIMT_UNSEEN __attribute__((no_sanitize("thread"), no_sanitize("address"), no_sanitize("undefined")))

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return uint3{x, y, z}; }
};

namespace fire::simt {

/// Read by kernels through threadIdx and its like, written by the scheduler only.
struct ThreadView {
  uint3 index;
};
struct BlockView {
  uint3 index{0, 0, 0};
  dim3 block, grid;
  unsigned char* dynamic_shared = nullptr;
  unsigned char* shared_window = nullptr;  // where the address 0 of shared memory would be; nullptr under TSan
  uint64_t serial = 0;                     // counts blocks; a SharedSlot of an earlier block is stale
};
extern const ThreadView* current_thread;
extern BlockView current_block;

/// Where the running block has one of its static shared arrays.
struct SharedSlot {
  uint64_t serial;
  void* data;
};
void* allocate_static_shared(SharedSlot* slot, size_t bytes, size_t alignment, const char* file, int line);

inline void* static_shared(SharedSlot* slot, size_t bytes, size_t alignment, const char* file, int line) {
  return slot->serial == current_block.serial ? slot->data : allocate_static_shared(slot, bytes, alignment, file, line);
}

/// The collectives of a warp. All lanes of a mask have to be at the same one, at the same source line.
enum class WarpOp : uint8_t {
  none,
  sync,
  shuffle,
  shuffle_up,
  shuffle_down,
  shuffle_xor,
  ballot,
  any,
  all,
  add,
  min_signed,
  max_signed,
  min_unsigned,
  max_unsigned,
  bit_and,
  bit_or,
  bit_xor,
  ldmatrix,
  ldmatrix_trans,
  mma,
  elect,
};

void block_barrier(const char* file, int line);
void warp_barrier(uint32_t mask, const char* file, int line);
/// `operand` is the source lane, the distance or the lane mask, as in CUDA.
uint64_t warp_shuffle(WarpOp op, uint32_t mask, uint64_t value, int operand, int width, const char* file, int line);
/// Votes and integer reductions; every lane of the mask receives the result.
uint32_t warp_reduce(WarpOp op, uint32_t mask, uint32_t value, const char* file, int line);

void warp_ldmatrix(WarpOp op, uint32_t* registers, const void* row, const char* file, int line);
void warp_mma(float* d, const uint32_t* a, uint32_t b0, uint32_t b1, const char* file, int line);

void copy_async(void* shared, const void* global, bool valid, const char* file, int line);
void copy_async_commit();
void copy_async_wait(unsigned pending, const char* file, int line);

/// Runs body(arguments) once for every thread of the grid.
struct Launch {
  const char* kernel;
  dim3 grid, block;
  size_t shared_bytes;
  void (*body)(const void* arguments);
  const void* arguments;
  // For a body from elsewhere (test/ptx): the kernel's function, and where its parameters are.
  const void* function;
  const void* const* parameters;
};
void run(const Launch& launch);

}  // namespace fire::simt
