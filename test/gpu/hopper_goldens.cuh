// The cases of wrapper_goldens.cu for the instructions of cuda/hopper.cuh.
#pragma once

#include "cuda/ptx.cuh"
#include "test/gpu/golden_case.h"
#include "test/gpu/hopper_wrappers.cuh"

namespace fire::cuda::goldens {

using wrappers::kDepth;

/// bf16 numbers, two a word.
inline Words halves(float (*draw)(uint32_t), size_t count, uint32_t first) {
  Words words(count / 2);
  for (uint32_t& word : words) {
    const float low = draw(noise(first++)), high = draw(noise(first++));
    word = bits(low) >> 16 | (bits(high) & 0xffff0000u);
  }
  return words;
}

/// A [64, kDepth] and B [N, kDepth], or their transposes: the words are the same, what they mean is not.
template <int N, bool TransA, bool TransB, bool Registers>
Words multiply(Swizzle swizzle, float (*draw)(uint32_t), Stream stream) {
  DeviceWords a(halves(draw, 64 * kDepth, 20000), stream), b(halves(draw, N * kDepth, 30000), stream);
  DeviceWords fragments(halves(draw, 64 * kDepth, 40000), stream);
  Words sums(128 * N / 2);
  for (size_t i = 0; i < sums.size(); ++i) sums[i] = bits(draw(noise(50000 + static_cast<uint32_t>(i))));
  DeviceWords d(sums, stream);
  const int span = swizzle_span(swizzle);
  const auto map = [&](DeviceWords& words, int rows, bool transposed) {
    const wrappers::OperandLayout layout{rows, span, transposed};
    const int64_t lines = transposed ? kDepth : rows, width = transposed ? rows : kDepth;
    return encode_tensor_map({words.data(), DType::bf16, lines, width, width, layout.box_lines(), span / 2, swizzle});
  };
  const wrappers::ProductArguments arguments{
      map(a, 64, TransA), map(b, N, TransB), swizzle, span, fragments.data(), reinterpret_cast<float*>(d.data())};
  gpu::launch("wgmma", 1, 128, wrappers::kProductShared, stream, wrappers::product_kernel<N, TransA, TransB, Registers>,
              arguments);
  return d.read(stream);
}

/// The product of wgmma_numbers by mma.sync, in the same order of k: whether the bits are the same is worth knowing.
__global__ void __launch_bounds__(128) same_by_mma_kernel(const uint32_t* a, const uint32_t* b, float* d) {
  const int thread = static_cast<int>(threadIdx.x), g = thread % 32 / 4, t = thread % 4;
  const uint32_t* const row = a + (thread / 32 * 16 + g) * (kDepth / 2);
  const uint32_t* const column = b + g * (kDepth / 2);
  float sums[4];
  for (int i = 0; i < 4; ++i) sums[i] = d[thread * 4 + i];
  for (int k = 0; k < kDepth / 2; k += 8) {
    const uint32_t fragment[4] = {row[k + t], row[k + t + 4 * kDepth], row[k + t + 4], row[k + t + 4 + 4 * kDepth]};
    ptx::mma_bf16(sums, fragment, column[k + t], column[k + t + 4]);
  }
  for (int i = 0; i < 4; ++i) d[thread * 4 + i] = sums[i];
}

inline Words multiply_by_mma(Stream stream) {
  DeviceWords a(halves(spread, 64 * kDepth, 20000), stream), b(halves(spread, 8 * kDepth, 30000), stream);
  Words sums(128 * 4);
  for (size_t i = 0; i < sums.size(); ++i) sums[i] = bits(spread(noise(50000 + static_cast<uint32_t>(i))));
  DeviceWords d(sums, stream);
  gpu::launch("same_by_mma", 1, 128, 0, stream, same_by_mma_kernel, static_cast<const uint32_t*>(a.data()),
              static_cast<const uint32_t*>(b.data()), reinterpret_cast<float*>(d.data()));
  return d.read(stream);
}

/// A box of [40, 100] that hangs over the edges by (col, row), through shared memory and to another place.
inline Words move_box(DType type, Swizzle swizzle, int col, int row, Stream stream) {
  constexpr int rows = 40, cols = 100, stride = 104, box_rows = 16;
  const int size = static_cast<int>(size_of(type));
  const int box_cols = swizzle == Swizzle::none ? 24 : swizzle_span(swizzle) / size;
  const uint32_t bytes = static_cast<uint32_t>(box_rows * box_cols * size);
  const unsigned matrix = static_cast<unsigned>(rows * stride * size / 4);
  DeviceWords from(noise_words(matrix, 60000), stream), to(noise_words(matrix, 70000), stream);
  DeviceWords shared(Words(bytes / 4), stream);
  const auto map = [&](DeviceWords& words) {
    return encode_tensor_map({words.data(), type, rows, cols, stride, box_rows, box_cols, swizzle});
  };
  gpu::launch("box", 1, 128, bytes, stream, wrappers::box_kernel,
              wrappers::BoxArguments{map(from), map(to), col, row, row + 70, col, bytes, shared.data()});
  Words words = shared.read(stream);
  const Words stored = to.read(stream);
  words.insert(words.end(), stored.begin(), stored.end());
  return words;
}

inline Words pass_words(Stream stream) {
  DeviceWords in(noise_words(3 * 128, 80000), stream), out(Words(256), stream);
  gpu::launch("sync", 1, 256, 0, stream, wrappers::sync_kernel, static_cast<const uint32_t*>(in.data()), out.data());
  return out.read(stream);
}

inline Words relay(Stream stream) {
  constexpr int tiles = 5, side = wrappers::kRelaySide;
  const Words words = noise_words(tiles * side * side / 2, 90000);
  DeviceWords from(words, stream), to(Words(words.size()), stream);
  const auto map = [](DeviceWords& matrix) {
    return encode_tensor_map({matrix.data(), DType::bf16, tiles * side, side, side, side, side, Swizzle::bytes_128});
  };
  gpu::launch("relay", 1, 384, 2 * wrappers::kRelayBytes, stream, wrappers::relay_kernel,
              wrappers::RelayArguments{map(from), map(to), tiles});
  return to.read(stream);
}

/// Every number of columns; a digest for each thread.
template <int... N>
void add_columns(std::vector<Case>& cases) {
  const auto add = [&cases](int n, auto ask) { cases.push_back({"wgmma_" + std::to_string(n), true, 8, ask, {}}); };
  (add(N,
       [](Stream s) { return folded(multiply<N, false, false, false>(Swizzle::bytes_128, small_integer, s), N / 2); }),
   ...);
  const auto add_registers = [&cases](int n, auto ask) {
    cases.push_back({"wgmma_registers_" + std::to_string(n), true, 8, ask, {}});
  };
  (add_registers(
       N,
       [](Stream s) { return folded(multiply<N, false, false, true>(Swizzle::bytes_128, small_integer, s), N / 2); }),
   ...);
}

template <bool TransA, bool TransB, bool Registers>
void add_layout(std::vector<Case>& cases, const std::string& name, Swizzle swizzle) {
  const auto ask = [swizzle](Stream s) {
    return folded(multiply<80, TransA, TransB, Registers>(swizzle, small_integer, s), 40);
  };
  cases.push_back({"wgmma_80_" + name + "_" + std::to_string(swizzle_span(swizzle)), true, 8, ask, {}});
}

inline void add_hopper_cases(std::vector<Case>& cases) {
  add_columns<8, 16, 32, 64, 80, 96, 128, 192, 256>(cases);
  for (const Swizzle swizzle : {Swizzle::none, Swizzle::bytes_32, Swizzle::bytes_64, Swizzle::bytes_128}) {
    add_layout<false, false, false>(cases, "nt", swizzle);
    add_layout<false, true, false>(cases, "nn", swizzle);
    add_layout<true, false, false>(cases, "tt", swizzle);
    add_layout<true, true, false>(cases, "tn", swizzle);
    add_layout<false, true, true>(cases, "registers_nn", swizzle);
    for (const DType type : {DType::bf16, DType::f32})
      for (const int edge : {0, -5, 90}) {
        const auto ask = [=](Stream s) { return folded(move_box(type, swizzle, edge, edge / 3, s), 64); };
        cases.push_back(
            {"tma_" + std::to_string(swizzle_span(swizzle)) + "_" + fire::name(type) + "_at_" + std::to_string(edge),
             true,
             8,
             ask,
             {}});
      }
  }
  const auto numbers = [](Stream s) { return multiply<8, false, false, false>(Swizzle::bytes_128, spread, s); };
  cases.push_back({"wgmma_numbers", false, 4, numbers, {}});
  cases.push_back({"wgmma_numbers_by_mma", false, 4, multiply_by_mma, {}});
  cases.push_back({"mbarriers", true, 8, pass_words, {}});
  cases.push_back({"relay", true, 8, [](Stream s) { return folded(relay(s), 64); }, {}});
}

}  // namespace fire::cuda::goldens
