// Products on Hopper that end as gemm.h says.
#include "cuda/gemm_hopper.h"
#include "cuda/gemm_hopper_launch.cuh"

namespace fire::cuda::detail {

bool takes_gemm_hopper(const GemmArguments& args) {
  bool low = false;
  for (const GemmProduct& product : args.products) low |= product.rank > 0;
  return args.a.direct && args.b.direct && (!low || (args.low_a.direct && args.low_b.direct));
}

void launch_gemm_hopper(Stream stream, const GemmDevice& device, GemmForm form, const GemmArguments& args, int parts) {
  switch (form) {
    case GemmForm::nt:
      return launch_hopper_form<GemmForm::nt>(stream, device, args, parts, PlainEpilogue{});
    case GemmForm::nn:
      return launch_hopper_form<GemmForm::nn>(stream, device, args, parts, PlainEpilogue{});
    case GemmForm::tn:
      return launch_hopper_form<GemmForm::tn>(stream, device, args, parts, PlainEpilogue{});
  }
}

}  // namespace fire::cuda::detail

namespace fire::cuda {

bool has_gemm_hopper() {
  using detail::HopperSmall;
  return gpu::most_threads(detail::gemm_hopper_kernel<HopperSmall, GemmForm::nt, detail::PlainEpilogue>) >=
         HopperSmall::threads;
}

}  // namespace fire::cuda
