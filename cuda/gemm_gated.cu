// Gate and up.
#include "cuda/gemm_gated.cuh"

namespace fire::cuda {

using detail::PlainGatedEpilogue;
using detail::StagedGatedEpilogue;

bool launch_gated_gemm(Stream stream, const GemmDevice& device, DType type, const Gemm& gate, const Gemm& up,
                       void* product, bool keeps) {
  const Gemm both[] = {gate, up};
  for (const Gemm& gemm : both)
    if (!detail::takes_gated(device, type, gemm, GemmForm::nt)) return false;
  if (gate.n != up.n || !gemm_joins(both, 2, GemmJoin::beside)) return false;
  detail::GemmArguments args = detail::gemm_arguments<bf16>(both, 2, GemmJoin::beside);
  if (!detail::takes_gemm_hopper(args) || !detail::in_whole_pieces(gate.n, gate.y, up.y, product)) return false;
  if (gate.m == 0 || gate.n == 0) return true;
  args.columns = 1;  // of tiles, which have both
  detail::with_tile<GemmForm::nt, 2>(device.multiprocessors, args, 1, [&](auto tile) {
    using Tile = decltype(tile);
    if constexpr (Tile::BN / 2 < detail::HopperPiece::columns) {
      const PlainGatedEpilogue epilogue{static_cast<bf16*>(product), keeps};
      detail::launch_epilogue<Tile, GemmForm::nt>(stream, device, args, 1, epilogue);
    } else {
      const auto map = [&](const void* data) { return detail::hopper_map(data, gate.m, gate.n, 16); };
      const StagedGatedEpilogue epilogue{map(gate.y), map(up.y), map(product), keeps};
      detail::launch_epilogue<Tile, GemmForm::nt>(stream, device, args, 1, epilogue);
    }
  });
  return true;
}

}  // namespace fire::cuda
