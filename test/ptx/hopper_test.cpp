// Every wrapper of cuda/hopper.cuh and cuda/wgmma.cuh as nvcc compiled it: right by the definition, in every order of threads
// and whenever copies and products are done.
#include <string>

#include "check.h"
#include "simt/emulator.h"
#include "simt/selftest_hopper_controls.cpp"  // a program has the kernels of hopper_wrappers.cuh once
#include "test/ptx/relay.cuh"

namespace fire::simt::selftest {
namespace {

template <class F>
void in_every_mode(F&& run) {
  const Options before = options();
  uint64_t bits = 0;
  for (const Schedule schedule : {Schedule::fifo, Schedule::lifo, Schedule::random})
    for (const bool eager : {false, true}) {
      set_options({.schedule = schedule, .eager = eager});
      const Result result = run();
      CHECK(result.right);
      CHECK(bits == 0 || bits == result.bits);
      bits = result.bits;
    }
  set_options(before);
}

void register_controls() {
  for (const Planted& control : hopper_controls())
    if (control.name != std::string("persistent_product"))  // its kernel is not among the wrappers
      check::add_test(std::string("ptx/hopper: ") + control.name, [&control] { in_every_mode(control.run); });
}
[[maybe_unused]] const bool registered = check::at_start(register_controls);

/// A whole number of [-4, 4]: every sum is exact, whatever the order.
float whole(int i) { return float((i * 7 + i / 9) % 9 - 4); }

/// [rows, k] in lines of 128 bytes, stored as it is or transposed.
template <class At>
cuda::TensorMap operand(Array<bf16>& values, int rows, bool transposed, At at) {
  constexpr int depth = wrappers::kDepth;
  const wrappers::OperandLayout layout{rows, 128, transposed};
  for (int row = 0; row < rows; ++row)
    for (int k = 0; k < depth; ++k) values[size_t(transposed ? k * rows + row : row * depth + k)] = to_bf16(at(row, k));
  const int64_t lines = transposed ? depth : rows, width = transposed ? rows : depth;
  return cuda::encode_tensor_map(
      {values.data(), DType::bf16, lines, width, width, layout.box_lines(), layout.span / 2, Swizzle::bytes_128});
}

/// A from shared memory, or from registers with B transposed.
template <int N, bool Registers>
Result product() {
  constexpr int depth = wrappers::kDepth;
  const auto a_at = [](int row, int k) { return whole(row * depth + k); };
  const auto b_at = [](int column, int k) { return whole(column * 5 + k * 3 + 1); };
  Array<bf16> a(64 * depth), b(N * depth);
  Array<float> d(128 * N / 2);
  Array<uint32_t> fragments(depth / 16 * 128 * 4);
  for (size_t i = 0; i < d.size(); ++i) d[i] = float(i % 7);
  for (size_t i = 0; i < fragments.size(); ++i) {
    const int thread = int(i / 4 % 128), row = thread / 32 * 16 + thread % 32 / 4 + int(i % 2) * 8;
    const int k = int(i / 512) * 16 + thread % 4 * 2 + int(i % 4) / 2 * 8;
    fragments[i] = uint32_t{to_bf16(a_at(row, k)).bits} | uint32_t{to_bf16(a_at(row, k + 1)).bits} << 16;
  }
  launch(1, 128, wrappers::kProductShared, wrappers::product_kernel<N, false, Registers, Registers>,
         wrappers::ProductArguments{operand(a, 64, false, a_at), operand(b, N, Registers, b_at), Swizzle::bytes_128, 128,
                                    fragments.data(), d.data()});
  bool right = true;
  for (int i = 0; i < 64 * N; ++i) {
    const int thread = i / (N / 2), j = i % (N / 2);
    const int row = thread / 32 * 16 + thread % 32 / 4 + j / 2 % 2 * 8, column = j / 4 * 8 + thread % 4 * 2 + j % 2;
    float sum = float(i % 7);
    for (int k = 0; k < depth; ++k) sum += a_at(row, k) * b_at(column, k);
    right = right && d[size_t(i)] == sum;
  }
  return {right, d.bits()};
}

template <int N>
void check_columns() {
  in_every_mode(product<N, false>);
  in_every_mode(product<N, true>);
}

TEST("ptx/hopper: products of every number of columns") {
  check_columns<8>();
  check_columns<16>();
  check_columns<32>();
  check_columns<64>();
  check_columns<80>();
  check_columns<96>();
  check_columns<128>();
  check_columns<192>();
  check_columns<256>();
}

TEST("ptx/hopper: relay of tiles through a ring of barriers, with registers that change hands") {
  in_every_mode([]() -> Result {
    constexpr int tiles = 5, side = wrappers::kRelaySide;
    Array<uint16_t> from(tiles * side * side), to(from.size());
    for (size_t i = 0; i < from.size(); ++i) from[i] = uint16_t(i * 3);
    const auto map = [&](Array<uint16_t>& x) {
      return cuda::encode_tensor_map({x.data(), DType::bf16, tiles * side, side, side, side, side, Swizzle::bytes_128});
    };
    launch(1, 384, 2 * wrappers::kRelayBytes, wrappers::relay_kernel,
           wrappers::RelayArguments{map(from), map(to), tiles});
    bool right = true;
    for (size_t i = 0; i < from.size(); ++i) right = right && to[i] == (from[i] ^ 0x8000);
    return {right, to.bits()};
  });
}

}  // namespace
}  // namespace fire::simt::selftest
