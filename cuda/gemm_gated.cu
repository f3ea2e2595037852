// Gate and up.
#include "cuda/gemm_gated.cuh"

namespace fire::cuda {

bool launch_gated_gemm(Stream stream, const GemmDevice& device, DType type, const Gemm& gate, const Gemm& up,
                       void* product, bool keeps) {
  const Gemm both[] = {gate, up};
  for (const Gemm& gemm : both)
    if (!detail::takes_gated(device, type, gemm, GemmForm::nt)) return false;
  if (gate.n != up.n || !gemm_joins(both, 2, GemmJoin::beside)) return false;
  detail::GemmArguments args = detail::gemm_arguments<bf16>(both, 2, GemmJoin::beside);
  if (!detail::takes_gemm_hopper(args)) return false;
  args.columns = 1;  // tiles have both
  if (gate.m == 0 || gate.n == 0) return true;
  const detail::GatedEpilogue epilogue{static_cast<bf16*>(product), detail::rows_of_pieces(product, gate.n), keeps};
  detail::launch_hopper_form<GemmForm::nt>(stream, device, args, 1, epilogue);
  return true;
}

}  // namespace fire::cuda
