// PTX instructions for which the C++ of a translation calls a function.
#include "ptx/instructions.h"

#include "simt/state.h"

namespace fire::ptx {

void misaligned(u64 at, u32 bytes, const char* file, int line) {
  static_cast<void>(bytes);
  simt::fail({simt::Defect::misuse_of, "a vector access that is not aligned to its size", {file, line},
              &simt::this_lane(), nullptr, at});
}

void trap(const char* file, int line) {
  simt::fail({simt::Defect::misuse, "trap", {file, line}, &simt::this_lane()});
}

bool whole_or_nothing(u32 bytes, const char* file, int line) {
  if (bytes != 0 && bytes != 16)
    simt::fail({simt::Defect::misuse_of, "cp.async of other than 0 or 16 bytes", {file, line}, &simt::this_lane(),
                nullptr, bytes});
  return bytes != 0;
}

u32 shuffle(WarpOp op, u32 value, u32 operand, u32 c, u32 mask, const char* file, int line) {
  if ((c & 31) != (op == WarpOp::shuffle_up ? 0u : 31u) || (c & ~0x1f1fu) != 0)
    simt::fail({simt::Defect::misuse_of, "a shuffle with bounds that CUDA does not make", {file, line},
                &simt::this_lane(), nullptr, c});
  return u32(simt::warp_shuffle(op, mask, value, int(operand), width_of(c), file, line));
}

bool in_range(WarpOp op, u32 operand, u32 c) {
  const int width = width_of(c), own = int(lane()) % width, n = int(operand);
  if (op == WarpOp::shuffle_up) return n <= own;
  if (op == WarpOp::shuffle_down) return own + n < width;
  return op == WarpOp::shuffle || (own ^ n) < width;
}

}  // namespace fire::ptx
