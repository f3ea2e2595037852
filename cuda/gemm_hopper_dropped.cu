// Products on Hopper of x under dropout: on its way into an adapter, and for the adapter's gradient.
#include "cuda/gemm_hopper_launch.cuh"

namespace fire::cuda::detail {

bool takes_gemm_hopper_dropped(GemmForm form, const GemmArguments& args) {
  const auto x = [](const FactorRoad& road) { return road.fetched && road.dropped; };
  return (form == GemmForm::nt && x(args.a) && args.b.direct) || (form == GemmForm::tn && args.a.direct && x(args.b));
}

void launch_gemm_hopper_dropped(Stream stream, const GemmDevice& device, GemmForm form, const GemmArguments& args,
                                int parts) {
  if (form == GemmForm::tn)
    return launch_hopper_instance<HopperSquare, GemmForm::tn, true>(stream, device, args, parts);
  if (enough_tiles(device, hopper_tiles<HopperSquare>(args, parts)))
    return launch_hopper_instance<HopperSquare, GemmForm::nt, true>(stream, device, args, parts);
  launch_hopper_instance<HopperNarrow, GemmForm::nt, true>(stream, device, args, parts);
}

}  // namespace fire::cuda::detail
