// Correct kernels with what Hopper has: no report in any mode, and the same bits in all of them.
#include <cmath>

#include "cuda/hopper.cuh"
#include "simt/selftest.h"
#include "test/gpu/hopper_wrappers.cuh"

namespace fire::simt::selftest {
namespace {

namespace ptx = cuda::ptx;
using cuda::Swizzle;
using cuda::TensorMap;

float random_float(uint64_t& state) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return float(uint32_t(state >> 33) % (1u << 20)) / float(1 << 19) - 1;
}

void fill(Array<bf16>& x, uint64_t seed) {
  for (size_t i = 0; i < x.size(); ++i) x[i] = to_bf16(random_float(seed));
}

// --- a persistent product, warp-specialised: TMA, wgmma, stores by TMA --------------------

constexpr int kTile = 64, kColumns = 96, kSlice = 64, kStages = 3;
constexpr int kLeftBytes = kTile * kSlice * 2, kRightBytes = kColumns * kSlice * 2;
constexpr int kStageBytes = kLeftBytes + kRightBytes;
constexpr int kOutBytes = kTile * 32 * 4;  // one of three boxes of 64 x 32

struct ProductArguments {
  TensorMap x, w, y;
  int rows, columns, depth;
};

// y[rows, columns] = x[rows, depth] w[columns, depth]^T. Warpgroup 0 loads, 1 and 2 have tiles in turn.
__global__ void __launch_bounds__(384, 1) product(const __grid_constant__ ProductArguments p) {
  DYNAMIC_SHARED(bytes);
  SHARED(uint64_t, full, kStages);
  SHARED(uint64_t, empty, kStages);
  unsigned char* const out = bytes + kStages * kStageBytes;
  const int thread = int(threadIdx.x), group = thread / 128;
  if (thread == 0) {
    for (int i = 0; i < kStages; ++i) {
      ptx::mbarrier_init(&full[i], 1);
      ptx::mbarrier_init(&empty[i], 2);
    }
    ptx::fence_mbarrier_init();
    ptx::prefetch_tensor_map(&p.x);
  }
  __syncthreads();
  const int across = (p.columns + kColumns - 1) / kColumns, slices = (p.depth + kSlice - 1) / kSlice;
  const int tiles = (p.rows + 2 * kTile - 1) / (2 * kTile) * across;
  int step = 0;
  if (group == 0) {
    ptx::registers_shrink<40>();
    if (thread >= 32 || !ptx::elect_one()) return;
    for (int tile = int(blockIdx.x); tile < tiles; tile += int(gridDim.x))
      for (int slice = 0; slice < slices; ++slice) {
        // Both halves of x pass through the same places one after another, to keep shared memory small.
        for (int half = 0; half < 2; ++half, ++step) {
          const int stage = step % kStages;
          unsigned char* const to = bytes + stage * kStageBytes;
          ptx::mbarrier_wait(&empty[stage], unsigned(step / kStages + 1) & 1);
          ptx::mbarrier_arrive_expect(&full[stage], kStageBytes);
          ptx::tma_load_2d(to, &p.x, slice * kSlice, (tile / across * 2 + half) * kTile, &full[stage]);
          ptx::tma_load_2d(to + kLeftBytes, &p.w, slice * kSlice, tile % across * kColumns, &full[stage]);
        }
      }
    return;
  }
  ptx::registers_grow<232>();
  for (int tile = int(blockIdx.x); tile < tiles; tile += int(gridDim.x)) {
    float sums[kColumns / 2];
    for (float& sum : sums) sum = 0;
    for (int slice = 0; slice < slices; ++slice)
      for (int half = 0; half < 2; ++half, ++step) {
        const int stage = step % kStages;
        ptx::mbarrier_wait(&full[stage], unsigned(step / kStages) & 1);
        if (half == group - 1) {
          const unsigned char* const from = bytes + stage * kStageBytes;
          ptx::wgmma_fence();
          for (int k = 0; k < kSlice / 16; ++k)
            ptx::wgmma<kColumns>(sums, ptx::wgmma_descriptor(from + k * 32, 16, 1024, Swizzle::bytes_128),
                                 ptx::wgmma_descriptor(from + kLeftBytes + k * 32, 16, 1024, Swizzle::bytes_128), true);
          ptx::wgmma_commit();
          ptx::wgmma_wait<0>();
        }
        if (thread % 128 == 0) ptx::mbarrier_arrive(&empty[stage]);
      }
    // The block's two warpgroups share the place for results.
    if (group == 2) ptx::named_barrier_sync(3, 256);
    const int row = thread % 128 / 32 * 16 + thread % 32 / 4;
    for (int i = 0; i < kColumns / 2; ++i) {
      const int column = i / 4 * 8 + thread % 4 * 2 + i % 2, line = row + i / 2 % 2 * 8;
      const int piece = (column % 32 / 4) ^ (line % 8);
      *reinterpret_cast<float*>(out + column / 32 * kOutBytes + line * 128 + piece * 16 + column % 4 * 4) = sums[i];
    }
    ptx::fence_async_shared();
    ptx::named_barrier_sync(group, 128);
    if (thread % 128 == 0) {
      for (int box = 0; box < 3; ++box)
        ptx::tma_store_2d(&p.y, tile % across * kColumns + box * 32, (tile / across * 2 + group - 1) * kTile,
                          out + box * kOutBytes);
      ptx::tma_store_commit();
      ptx::tma_store_wait_read<0>();
    }
    if (group == 1) {
      ptx::named_barrier_sync(3, 256);
      ptx::named_barrier_sync(4, 256);
    } else {
      ptx::named_barrier_sync(4, 256);
    }
  }
}

Result persistent_product() {
  constexpr int rows = 300, columns = 200, depth = 152;
  Array<bf16> x(size_t{rows} * depth), w(size_t{columns} * depth);
  Array<float> y(size_t{rows} * columns);
  fill(x, 5);
  fill(w, 6);
  ProductArguments p{};
  p.x = cuda::encode_tensor_map({x.data(), DType::bf16, rows, depth, depth, kTile, kSlice, Swizzle::bytes_128});
  p.w = cuda::encode_tensor_map({w.data(), DType::bf16, columns, depth, depth, kColumns, kSlice, Swizzle::bytes_128});
  p.y = cuda::encode_tensor_map({y.data(), DType::f32, rows, columns, columns, kTile, 32, Swizzle::bytes_128});
  p.rows = rows;
  p.columns = columns;
  p.depth = depth;
  launch(4, 384, kStages * kStageBytes + 3 * kOutBytes, product, p);
  double difference = 0, size = 0;
  for (size_t m = 0; m < rows; ++m)
    for (size_t n = 0; n < columns; ++n) {
      double sum = 0;
      for (size_t k = 0; k < depth; ++k) sum += double(to_float(x[m * depth + k])) * to_float(w[n * depth + k]);
      difference += (y[m * columns + n] - sum) * (y[m * columns + n] - sum);
      size += sum * sum;
    }
  return {std::sqrt(difference / size) < 1e-6, y.bits()};
}

// --- every layout of operands, against the definition --------------------

namespace wrappers = cuda::wrappers;
constexpr int kDepth = wrappers::kDepth;

/// Whole numbers of [-4, 4]: every sum is exact, whatever the order.
void fill_whole(Array<bf16>& x, uint64_t seed) {
  for (size_t i = 0; i < x.size(); ++i) x[i] = to_bf16(std::round(4 * random_float(seed)));
}

/// An operand [rows, kDepth], stored as it is or transposed.
struct Operand {
  Operand(int rows_, bool transposed_, Swizzle swizzle, uint64_t seed)
      : rows(rows_), transposed(transposed_), values(size_t(rows_) * kDepth) {
    fill_whole(values, seed);
    const wrappers::OperandLayout layout{rows, cuda::swizzle_span(swizzle), transposed};
    const int64_t lines = transposed ? kDepth : rows, width = transposed ? rows : kDepth;
    map = cuda::encode_tensor_map(
        {values.data(), DType::bf16, lines, width, width, layout.box_lines(), layout.span / 2, swizzle});
  }
  float at(int row, int k) {
    return to_float(values[transposed ? size_t(k) * size_t(rows) + size_t(row) : size_t(row) * kDepth + size_t(k)]);
  }
  int rows;
  bool transposed;
  Array<bf16> values;
  TensorMap map;
};

template <int N, bool TransA, bool TransB, bool Registers>
bool layout_is_right(Swizzle swizzle, uint64_t& bits) {
  Operand a(64, TransA, swizzle, 3), b(N, TransB, swizzle, 4);
  Array<float> d(128 * N / 2);
  Array<uint32_t> fragments(kDepth / 16 * 128 * 4);
  for (size_t i = 0; i < d.size(); ++i) d[i] = float(i % 7);
  for (size_t i = 0; i < fragments.size(); ++i) {
    const int thread = int(i / 4 % 128), row = thread / 32 * 16 + thread % 32 / 4 + int(i % 2) * 8;
    const int k = int(i / 512) * 16 + thread % 4 * 2 + int(i % 4) / 2 * 8;
    fragments[i] = uint32_t{to_bf16(a.at(row, k)).bits} | uint32_t{to_bf16(a.at(row, k + 1)).bits} << 16;
  }
  launch(1, 128, wrappers::kProductShared, wrappers::product_kernel<N, TransA, TransB, Registers>,
         wrappers::ProductArguments{a.map, b.map, swizzle, cuda::swizzle_span(swizzle), fragments.data(), d.data()});
  bool right = true;
  for (int thread = 0; thread < 128; ++thread)
    for (int i = 0; i < N / 2; ++i) {
      const int row = thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + thread % 4 * 2 + i % 2;
      float sum = float((thread * N / 2 + i) % 7);
      for (int k = 0; k < kDepth; ++k) sum += a.at(row, k) * b.at(column, k);
      right = right && d[size_t(thread * N / 2 + i)] == sum;
    }
  bits = bits * 31 + d.bits();
  return right;
}

template <int N>
Result layouts() {
  bool right = true;
  uint64_t bits = 0;
  for (const Swizzle swizzle : {Swizzle::none, Swizzle::bytes_32, Swizzle::bytes_64, Swizzle::bytes_128}) {
    right &= layout_is_right<N, false, false, false>(swizzle, bits);
    right &= layout_is_right<N, false, true, false>(swizzle, bits);
    right &= layout_is_right<N, true, false, false>(swizzle, bits);
    right &= layout_is_right<N, true, true, false>(swizzle, bits);
    right &= layout_is_right<N, false, false, true>(swizzle, bits);
    right &= layout_is_right<N, false, true, true>(swizzle, bits);
  }
  return {right, bits};
}

// --- boxes of TMA at and beyond the edges --------------------

template <class T>
bool box_is_right(Swizzle swizzle, int col, int row, uint64_t& bits) {
  constexpr int rows = 19, cols = 50, stride = 56, box_rows = 16;
  const int box_cols = swizzle == Swizzle::none ? 24 : cuda::swizzle_span(swizzle) / int(sizeof(T));
  const DType type = sizeof(T) == 2 ? DType::bf16 : DType::f32;
  Array<T> from(rows * stride), to(rows * stride);
  for (size_t i = 0; i < from.size(); ++i) from[i] = T(i + 1);
  for (size_t i = 0; i < to.size(); ++i) to[i] = T(0);
  const int line = box_cols * int(sizeof(T)), bytes = box_rows * line;
  Array<uint32_t> words(size_t(bytes) / 4);
  const auto map = [&](T* data) {
    return cuda::encode_tensor_map({data, type, rows, cols, stride, box_rows, box_cols, swizzle});
  };
  const int to_col = -3, to_row = 7;
  launch(1, 128, size_t(bytes), wrappers::box_kernel,
         wrappers::BoxArguments{map(from.data()), map(to.data()), col, row, to_col, to_row, uint32_t(bytes),
                                words.data()});
  const T* const shared = reinterpret_cast<const T*>(words.data());
  constexpr T change = sizeof(T) == 2 ? T(0x0101) : T(0x01010101);
  bool right = true;
  for (int r = 0; r < box_rows; ++r)
    for (int c = 0; c < box_cols; ++c) {
      const bool inside = row + r >= 0 && row + r < rows && col + c >= 0 && col + c < cols;
      const T value = inside ? from[size_t((row + r) * stride + col + c)] : T(0);
      // By the manual: 16-byte piece p of line l of 128 bytes goes to p xor l, and so on for narrower lines.
      const int piece = c * int(sizeof(T)) / 16, mask = swizzle == Swizzle::none ? 0 : line / 16 - 1;
      const int moved = piece ^ (r * line / 128 & mask);
      right = right && shared[(r * line + moved * 16) / int(sizeof(T)) + c % (16 / int(sizeof(T)))] == value;
      if (to_row + r < rows && to_col + c >= 0 && to_col + c < cols) {
        T& stored = to[size_t((to_row + r) * stride + to_col + c)];
        right = right && stored == T(value ^ change);
        stored = T(0);
      }
    }
  for (size_t i = 0; i < to.size(); ++i) right = right && to[i] == T(0);  // nothing else was written
  bits = bits * 31 + words.bits();
  return right;
}

Result boxes() {
  bool right = true;
  uint64_t bits = 0;
  for (const Swizzle swizzle : {Swizzle::none, Swizzle::bytes_32, Swizzle::bytes_64, Swizzle::bytes_128})
    for (const int col : {0, 3, -5, 45, 60})
      for (const int row : {0, 11, -4, 30}) {
        right &= box_is_right<uint16_t>(swizzle, col, row, bits);
        right &= box_is_right<uint32_t>(swizzle, col, row, bits);
      }
  return {right, bits};
}

// --- phases, elections, named barriers --------------------

Result phases() {
  Array<uint32_t> in(3 * 128), out(256);
  for (size_t i = 0; i < in.size(); ++i) in[i] = uint32_t(i * i + 1);
  launch(1, 256, 0, wrappers::sync_kernel, static_cast<const uint32_t*>(in.data()), out.data());
  uint32_t sums[256];
  for (uint32_t thread = 0; thread < 256; ++thread) {
    sums[thread] = 1;
    for (uint32_t round = 0; round < 3 && thread >= 128; ++round)
      sums[thread] = sums[thread] * 31 + in[round * 128 + 255 - thread];
  }
  bool right = true;
  for (uint32_t thread = 0; thread < 256; ++thread)
    right = right && out[thread] == sums[thread] + (thread >= 192 ? sums[thread - 192] : 0);
  return {right, out.bits()};
}

}  // namespace

const std::vector<Planted>& hopper_controls() {
  static const std::vector<Planted> all = {
      {"layouts_of_8_columns", layouts<8>},
      {"layouts_of_80_columns", layouts<80>},
      {"layouts_of_256_columns", layouts<256>},
      {"boxes", boxes},
      {"phases", phases},
      {"pipeline_without_fault", pipeline_without_fault},
      {"read_after_store", read_after_store},
      {"persistent_product", persistent_product},
  };
  return all;
}

}  // namespace fire::simt::selftest
