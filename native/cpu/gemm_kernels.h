// What one instruction set brings to the matrix product: how operands are packed, and one register tile.
//
// Packed panels. A panel holds `width` lanes (rows of A or columns of B) over a block of k. In the f32 layout the value
// (k, lane) is the float at [k * width + lane]. In the pair layout the dword at [(k / 2) * width + lane] holds two
// consecutive k as bf16, the even one in the low half; an odd end is padded with zero.
#pragma once

#include <cstdint>

#include "cpu/cpu_features.h"
#include "ops/weight_packing.h"
#include "tensor/dtype.h"

namespace fire::cpu {

/// Type of the arithmetic. bf16: both operands are rounded to bf16 (nearest even), products are summed in f32.
enum class Precision : uint8_t { f32, bf16 };

/// Lanes to pack: element (lane, k) is at data[lane * lane_stride + k * k_stride].
struct PackSource {
  const void* data;
  DType dtype;
  int64_t lane_stride;
  int64_t k_stride;

  PackSource at(int64_t lane, int64_t k) const {
    const int64_t offset = lane * lane_stride + k * k_stride;
    return {static_cast<const char*>(data) + offset * static_cast<int64_t>(size_of(dtype)), dtype, lane_stride,
            k_stride};
  }
};

/// Chains of KernelSet::probe: enough to hide the latency of a multiply-add on every pipe.
constexpr int kProbeChains = 12;

/// One register tile: C[rows, cols] = alpha * A B + beta * C over one block of k.
struct Tile {
  int rows;
  int cols;
  int64_t k;
  const void* a;  ///< Panel of KernelSet::a_width lanes.
  const void* b;  ///< Panel of KernelSet::nr lanes.
  /// Fetched into the cache meanwhile, a line for every dword of a lane; `b` where nothing is needed soon.
  const char* soon;
  float alpha;
  float beta;  ///< 0: C is not read.
  float* c;
  int64_t ldc;
};

/// Every element of a tile must come from the same operations in the same order whatever `rows` and `cols` are: that is
/// what makes a product independent of how it is cut into tiles.
struct KernelSet {
  const char* name;
  bool pairs;   ///< Pair layout.
  int mr;       ///< Most rows of a tile.
  int a_width;  ///< Lanes of an A panel, at least mr.
  int nr;       ///< Most columns of a tile, lanes of a B panel.
  /// Packs `lanes` <= width lanes over k; the lanes up to width are set to zero.
  void (*pack)(const PackSource& source, int lanes, int width, int64_t k, void* panel);
  void (*run)(const Tile& tile);
  /// Independent multiply-adds on registers only, `steps` times kProbeChains vectors: the ceiling of `run`. Returns the
  /// number of operations done.
  double (*probe)(int64_t steps);

  /// Bytes of a panel over k.
  int64_t panel_bytes(int width, int64_t k) const { return 4 * width * (pairs ? (k + 1) / 2 : k); }
  /// Of B.
  PanelLayout panel_layout() const { return {nr, pairs ? 2 : 1}; }
};

/// The kernels of an instruction set that this processor supports.
const KernelSet& kernel_set(Isa isa, Precision precision);

const KernelSet& portable_kernels(Precision precision);
#if defined(__x86_64__)
const KernelSet& avx2_kernels(Precision precision);
const KernelSet& avx512_kernels(Precision precision);
const KernelSet& avx512bf16_kernels();
#endif

}  // namespace fire::cpu
