// x under dropout in products on Hopper (cuda/gemm_hopper_dropout.cuh): the bits of the kernel for every GPU, on its
// way into adapters and in their gradients. What they are to be is held against float64 in test/ops (lora_linear).
#include <functional>
#include <memory>

#include "cuda/gemm.h"
#include "cuda/watch.h"
#include "device.h"

namespace fire::test {
namespace {

using cuda::Gemm;
using cuda::GemmDevice;
using cuda::GemmForm;
using cuda::GemmJoin;

constexpr size_t h100_shared = size_t{228} << 10;

/// Tokens of x, whose columns go into adapters of these ranks, each under a mask of its own.
struct Shape {
  int64_t tokens, columns;
  std::vector<int64_t> ranks;
};

class Dropped {
 public:
  Dropped(const Shape& shape, float rate)
      : ops_(device(DType::bf16)),
        s_(shape),
        rate_(rate),
        x_(ops_, Random(1).floats(s_.tokens * s_.columns), DType::bf16, {s_.tokens, s_.columns}) {
    for (uint32_t i = 0; i < s_.ranks.size(); ++i) {
      const int64_t rank = s_.ranks[i];
      a_.push_back(placed(10 + i, DType::bf16, {rank, s_.columns}));
      dh_.push_back(placed(20 + i, DType::bf16, {s_.tokens, rank}));
      da_.push_back(placed(30 + i, DType::f32, {rank, s_.columns}));
      masks_.push_back(std::make_unique<Placed>(ops_, mask(40 + i), DType::i32,
                                                std::vector<int64_t>{s_.tokens, mask_words(s_.columns)}));
    }
  }

  /// h = drop(x) A^T of adapters `first` to `end`, in one launch.
  Doubles into_adapters(const GemmDevice& device, size_t first, size_t end) const {
    std::vector<Gemm> gemms;
    std::vector<std::unique_ptr<Placed>> h;
    for (size_t i = first; i < end; ++i) {
      h.push_back(std::make_unique<Placed>(ops_, DType::bf16, std::vector<int64_t>{s_.tokens, s_.ranks[i]}));
      Gemm g = product(GemmForm::nt, s_.tokens, s_.ranks[i], s_.columns, i);
      g.a = dropped(), g.b = {a_[i]->tensor().data(), DType::bf16};
      g.y = h.back()->tensor().data(), g.y_type = DType::bf16;
      gemms.push_back(g);
    }
    launch(device, gemms);
    Doubles all;
    for (const auto& one : h)
      for (const double value : one->values()) all.push_back(value);
    return all;
  }

  /// dA + dh^T drop(x), with workspace for so many rows at a time.
  Doubles gradient(GemmDevice device, size_t i, int64_t workspace_rows) const {
    const Placed sum(ops_, DType::f32, {s_.ranks[i], s_.columns});
    Gemm g = product(GemmForm::tn, s_.ranks[i], s_.columns, s_.tokens, i);
    g.a = {dh_[i]->tensor().data(), DType::bf16}, g.b = dropped();
    g.residual = da_[i]->tensor().data();
    g.y = sum.tensor().data();
    const int64_t chunk = cuda::gemm_chunk(g), parts = (s_.tokens + chunk - 1) / chunk;
    const Placed workspace(ops_, DType::f32, {workspace_rows * parts * s_.columns});
    device.workspace = workspace.tensor().f32(), device.workspace_bytes = workspace.tensor().bytes();
    launch(device, {g});
    return sum.values();
  }

 private:
  std::unique_ptr<Placed> placed(uint32_t seed, DType type, const std::vector<int64_t>& dims) const {
    return std::make_unique<Placed>(ops_, Random(seed).floats(dims[0] * dims[1]), type, dims);
  }

  /// Bits of columns that are kept, and of those that fill the last word.
  std::vector<double> mask(uint32_t seed) const {
    Random random(seed);
    std::vector<double> words(static_cast<size_t>(s_.tokens * mask_words(s_.columns)));
    for (double& word : words) {
      uint32_t bits = 0;
      for (int bit = 0; bit < 32; ++bit) bits |= uint32_t{random.chance(1 - rate_)} << bit;
      word = static_cast<double>(static_cast<int32_t>(bits));
    }
    return words;
  }

  cuda::GemmFactor dropped() const { return {x_.tensor().data(), DType::bf16, true}; }

  Gemm product(GemmForm form, int64_t m, int64_t n, int64_t k, size_t i) const {
    Gemm g;
    g.form = form;
    g.m = m, g.n = n, g.k = k;
    g.mask = {reinterpret_cast<const uint32_t*>(masks_[i]->tensor().i32()), static_cast<uint32_t>(s_.tokens),
              static_cast<uint32_t>(mask_words(s_.columns)), 1 / (1 - rate_)};
    return g;
  }

  void launch(const GemmDevice& device, const std::vector<Gemm>& gemms) const {
    cuda::launch_gemm(ops_.stream(), device, DType::bf16, gemms.data(), static_cast<int>(gemms.size()),
                      GemmJoin::beside);
  }

  cuda::CudaOps& ops_;
  const Shape s_;
  const float rate_;
  Placed x_;
  std::vector<std::unique_ptr<Placed>> a_, dh_, da_, masks_;
};

GemmDevice with(bool hopper, int multiprocessors) { return {h100_shared, nullptr, 0, hopper, multiprocessors}; }

/// Launches of Hopper's kernel.
int64_t launches_on_hopper(const std::function<void()>& body) {
  const cuda::Profile profile;
  body();
  cuda::synchronize(device(DType::bf16).stream());
  const auto totals = profile.totals();
  const auto found = totals.find("gemm sm_90a");
  return found == totals.end() ? 0 : found->second.launches;
}

TEST("on Hopper x under dropout has the same bits in products beside each other and alone, on every device") {
  if (device(DType::bf16).isa_name() != "sm_90a") return;
  const Shape shapes[] = {{150, 200, {136, 16, 160}}, {1, 40, {8}}, {70, 72, {128, 24}}, {300, 264, {8, 16, 8}}};
  for (const float rate : {0.0f, 0.25f, 0.97f})
    for (const Shape& shape : shapes) {
      const Dropped x(shape, rate);
      const size_t count = shape.ranks.size();
      const Doubles usual = x.into_adapters(with(true, 132), 0, count);
      CHECK(same_bits(x.into_adapters(with(true, 1), 0, count), usual));
      Doubles apart;
      for (size_t i = 0; i < count; ++i)
        for (const double value : x.into_adapters(with(true, 4), i, i + 1)) apart.push_back(value);
      CHECK(same_bits(apart, usual));
      // The emulator's tensor cores have one order of sums; those of a GPU need not.
      if (is_emulated(device(DType::bf16))) CHECK(same_bits(x.into_adapters(with(false, 132), 0, count), usual));
    }
}

TEST("on Hopper gradients of x under dropout have the same bits whatever multiprocessors and workspace there are") {
  if (device(DType::bf16).isa_name() != "sm_90a") return;
  const Shape shapes[] = {{70, 200, {8, 136}}, {200, 72, {160}}, {1100, 72, {136, 16}}, {1, 8, {8}}};
  for (const float rate : {0.0f, 0.25f, 0.97f})
    for (const Shape& shape : shapes) {
      const Dropped x(shape, rate);
      for (size_t i = 0; i < shape.ranks.size(); ++i) {
        const Doubles usual = x.gradient(with(true, 132), i, shape.ranks[i]);
        CHECK(same_bits(x.gradient(with(true, 1), i, shape.ranks[i]), usual));
        if (shape.ranks[i] > 130) CHECK(same_bits(x.gradient(with(true, 4), i, 130), usual));
        if (is_emulated(device(DType::bf16))) CHECK(same_bits(x.gradient(with(false, 132), i, shape.ranks[i]), usual));
      }
    }
}

TEST("Hopper's kernel takes x under dropout in rows of whole 16 bytes") {
  if (device(DType::bf16).isa_name() != "sm_90a") return;
  const Dropped even({3, 40, {8, 8}}, 0.5f), odd({3, 42, {8, 8}}, 0.5f);
  CHECK(launches_on_hopper([&] { even.into_adapters(with(true, 4), 0, 2); }) == 1);
  CHECK(launches_on_hopper([&] { even.gradient(with(true, 4), 0, 8); }) == 1);
  CHECK(launches_on_hopper([&] { odd.into_adapters(with(true, 4), 0, 2); }) == 0);
  CHECK(launches_on_hopper([&] { odd.gradient(with(true, 4), 0, 8); }) == 0);
}

}  // namespace
}  // namespace fire::test
