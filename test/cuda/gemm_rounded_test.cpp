// The way back through the head on Hopper: a gradient in f32 is rounded beforehand, as much of it at a time as the
// workspace holds, and that makes no difference. What it is to be is held against float64 in test/ops
// (linear_backward).
#include <map>
#include <string>

#include "cuda/gemm.h"
#include "cuda/watch.h"
#include "device.h"

namespace fire::test {
namespace {

using cuda::Gemm;
using cuda::GemmDevice;

/// dx[m, n] = 0.75 (dy[m, k] W[k, n]) + residual, dy in f32.
class Back {
 public:
  Back(int64_t m, int64_t n, int64_t k)
      : ops_(device(DType::bf16)),
        dy_(ops_, Random(1).floats(m * k), DType::f32, {m, k}),
        w_(ops_, Random(2).floats(k * n), DType::bf16, {k, n}),
        residual_(ops_, Random(3).floats(m * n), DType::f32, {m, n}) {}

  /// With a workspace of so many bytes. `kernels`: which ran.
  Doubles on(GemmDevice device, int64_t workspace_bytes,
             std::map<std::string, cuda::Profile::Total>* kernels = nullptr) const {
    const Placed workspace(ops_, DType::f32, {workspace_bytes / static_cast<int64_t>(sizeof(float))});
    device.workspace = workspace.tensor().f32(), device.workspace_bytes = workspace.tensor().bytes();
    const Placed dx(ops_, DType::f32, {residual_.tensor().rows(), residual_.tensor().cols()});
    Gemm g;
    g.form = cuda::GemmForm::nn;
    g.m = dx.tensor().rows(), g.n = dx.tensor().cols(), g.k = w_.tensor().rows();
    g.a = {dy_.tensor().data(), DType::f32}, g.b = {w_.tensor().data(), DType::bf16};
    g.alpha = 0.75f;
    g.residual = residual_.tensor().data();
    g.y = dx.tensor().data();
    const cuda::Profile profile;
    cuda::launch_gemm(ops_.stream(), device, DType::bf16, &g, 1, cuda::GemmJoin::beside);
    cuda::synchronize(ops_.stream());
    if (kernels != nullptr) *kernels = profile.totals();
    return dx.values();
  }

 private:
  cuda::CudaOps& ops_;
  Placed dy_, w_, residual_;
};

GemmDevice with(bool hopper, int multiprocessors) { return {size_t{228} << 10, nullptr, 0, hopper, multiprocessors}; }

TEST("on Hopper a gradient in f32 is rounded beforehand, with the same bits whatever workspace there is") {
  if (device(DType::bf16).isa_name() != "sm_90a") return;
  constexpr int64_t enough = int64_t{1} << 20;
  const auto check = [](const Back& back, std::initializer_list<int64_t> workspaces) {
    const Doubles usual = back.on(with(true, 132), enough);
    for (const int64_t bytes : workspaces) CHECK(same_bits(back.on(with(true, 4), bytes), usual));
    if (is_emulated(device(DType::bf16))) CHECK(same_bits(back.on(with(false, 132), enough), usual));
  };
  const Back whole(150, 264, 72);
  constexpr int64_t row = 72 * 2;
  check(whole, {150 * row, 140 * row, row});
  constexpr int64_t part = 16384 * 2 + 24 * 4, sum = 24 * 4;
  check(Back(5, 24, 33000), {5 * (3 * part + sum), 5 * (2 * part + sum), 5 * (part + sum), 2 * (part + sum)});
  CHECK_ERROR(Code::internal, ("has no workspace"), whole.on(with(true, 4), row - 4));
}

TEST("a gradient in f32 is rounded once for all columns of W, and not where TMA could not fetch it") {
  if (device(DType::bf16).isa_name() != "sm_90a") return;
  std::map<std::string, cuda::Profile::Total> kernels;
  Back(70, 40, 24).on(with(true, 4), 1 << 16, &kernels);
  CHECK(kernels["round rows"].launches == 1 && kernels["gemm sm_90a"].launches == 1 && kernels.size() == 2);
  Back(70, 40, 28).on(with(true, 4), 1 << 16, &kernels);
  CHECK(kernels["gemm"].launches == 1 && kernels.size() == 1);
}

}  // namespace
}  // namespace fire::test
