// Products on Hopper of x under dropout: on its way into an adapter, and for the adapter's gradient.
#include "cuda/gemm_hopper.h"
#include "cuda/gemm_hopper_launch.cuh"

namespace fire::cuda::detail {
namespace {

using DroppedSquare = HopperTile<2, 128, 6, 1, true>;
using DroppedNarrow = HopperTile<1, 128, 4, 2, true>;

}  // namespace

bool takes_gemm_hopper_dropped(GemmForm form, const GemmArguments& args) {
  for (const GemmProduct& product : args.products)
    if (product.rank > 0) return false;
  // Dropped, and otherwise as a direct factor.
  const auto is_x = [&](const FactorRoad& road, const void* GemmProduct::*data, int GemmProduct::*cols) {
    bool pieces = true;
    for (int i = 0; i < args.columns; ++i)
      pieces &= in_pieces({args.products[i].*data, DType::bf16}, args.products[i].*cols);
    return road.dropped && !road.f32 && pieces;
  };
  if (form == GemmForm::nt) return is_x(args.a, &GemmProduct::a, &GemmProduct::k) && args.b.direct;
  return form == GemmForm::tn && args.a.direct && is_x(args.b, &GemmProduct::b, &GemmProduct::n);
}

// An adapter is rarely wider than 128. Its h and its sums are a small part of what is moved: they go as they are.
void launch_gemm_hopper_dropped(Stream stream, const GemmDevice& device, GemmForm form, const GemmArguments& args,
                                int parts) {
  const PlainEpilogue epilogue{};
  if (form == GemmForm::tn)  // parts are cut by tiles of this size (gemm_chunk)
    return launch_epilogue<DroppedSquare, GemmForm::tn>(stream, device, args, parts, epilogue);
  if (4 * hopper_tiles<DroppedSquare>(args, parts, 1) >= 3 * int64_t{device.multiprocessors})
    return launch_epilogue<DroppedSquare, GemmForm::nt>(stream, device, args, parts, epilogue);
  launch_epilogue<DroppedNarrow, GemmForm::nt>(stream, device, args, parts, epilogue);
}

}  // namespace fire::cuda::detail
