// The way back through down to gate and up.
#include "cuda/gemm_gated.cuh"

namespace fire::cuda {

bool launch_gated_backward(Stream stream, const GemmDevice& device, DType type, const Gemm& down, void* gate, void* up,
                           void* product) {
  if (!detail::takes_gated(device, type, down, GemmForm::nn) || down.bias != nullptr) return false;
  const detail::GemmArguments args = detail::gemm_arguments<bf16>(&down, 1, GemmJoin::beside);
  if (!detail::takes_gemm_hopper(args)) return false;
  if (down.m == 0 || down.n == 0) return true;
  const bool vector = detail::rows_of_pieces(gate, down.n) && detail::rows_of_pieces(up, down.n) &&
                      (product == nullptr || detail::rows_of_pieces(product, down.n));
  const detail::GatedBackwardEpilogue epilogue{static_cast<bf16*>(gate), static_cast<bf16*>(up),
                                               static_cast<bf16*>(product), vector};
  detail::launch_hopper_form<GemmForm::nn>(stream, device, args, 1, epilogue);
  return true;
}

}  // namespace fire::cuda
