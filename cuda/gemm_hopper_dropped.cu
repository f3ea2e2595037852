// Products on Hopper of x under dropout: on its way into an adapter, and for the adapter's gradient.
#include "cuda/gemm_hopper_launch.cuh"

namespace fire::cuda::detail {
namespace {

using DroppedSquare = HopperTile<2, 128, 6, 1, true>;
using DroppedNarrow = HopperTile<1, 128, 4, 2, true>;

}  // namespace

bool takes_gemm_hopper_dropped(GemmForm form, const GemmArguments& args) {
  for (const GemmProduct& product : args.products)
    if (product.rank > 0) return false;
  const auto x = [](const FactorRoad& road) { return road.fetched && road.dropped; };
  return (form == GemmForm::nt && x(args.a) && args.b.direct) || (form == GemmForm::tn && args.a.direct && x(args.b));
}

// An adapter is rarely wider than 128. Its h and its sums are a small part of what is moved: they go as they are.
void launch_gemm_hopper_dropped(Stream stream, const GemmDevice& device, GemmForm form, const GemmArguments& args,
                                int parts) {
  const PlainEpilogue epilogue{};
  if (form == GemmForm::tn)  // parts are cut by tiles of this size (gemm_chunk)
    return launch_hopper_instance<DroppedSquare, GemmForm::tn>(stream, device, args, parts, epilogue);
  if (enough_tiles(device.multiprocessors, hopper_tiles<DroppedSquare>(args, parts)))
    return launch_hopper_instance<DroppedSquare, GemmForm::nt>(stream, device, args, parts, epilogue);
  launch_hopper_instance<DroppedNarrow, GemmForm::nt>(stream, device, args, parts, epilogue);
}

}  // namespace fire::cuda::detail
