// The way back through down to gate and up.
#include "cuda/gemm_gated.cuh"

namespace fire::cuda {

bool launch_gated_backward(Stream stream, const GemmDevice& device, DType type, const Gemm& down, void* gate, void* up,
                           void* product) {
  if (!detail::takes_gated(device, type, down, GemmForm::nn) || down.bias != nullptr) return false;
  const detail::GemmArguments args = detail::gemm_arguments<bf16>(&down, 1, GemmJoin::beside);
  if (!detail::takes_gemm_hopper(args) || !detail::in_whole_pieces(down.n, gate, up, product)) return false;
  if (down.m == 0 || down.n == 0) return true;
  detail::with_tile<GemmForm::nn>(device.multiprocessors, args, 1, [&](auto tile) {
    using Tile = decltype(tile);
    const auto map = [&](const void* data, int rows) { return detail::hopper_map(data, down.m, down.n, rows); };
    detail::GatedBackwardEpilogue epilogue{map(gate, Tile::BM), map(up, Tile::BM), map(gate, 16), map(up, 16), {},
                                           product != nullptr};
    if (product != nullptr) epilogue.product = map(product, 16);
    detail::launch_epilogue<Tile, GemmForm::nn>(stream, device, args, 1, epilogue);
  });
  return true;
}

}  // namespace fire::cuda
