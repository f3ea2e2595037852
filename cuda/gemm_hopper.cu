// Which tile a product takes on Hopper.
#include "cuda/gemm_hopper_launch.cuh"

namespace fire::cuda::detail {
namespace {

/// The largest tile that still gives most multiprocessors one.
template <GemmForm Form>
void launch_form(Stream stream, const GemmDevice& device, const GemmArguments& args, int parts) {
  if constexpr (Form == GemmForm::tn) {  // parts are cut by tiles of this size (gemm_chunk)
    launch_hopper_instance<HopperSquare, Form>(stream, device, args, parts);
  } else {
    int widest = 0;
    for (int i = 0; i < args.columns; ++i) widest = std::max(widest, args.products[i].n);
    const bool tall = args.m_end - args.m_begin > 64;
    const auto enough = [&](int64_t tiles) { return enough_tiles(device, tiles); };
    if (tall && widest > 128 && enough(hopper_tiles<HopperWide>(args, parts)))
      return launch_hopper_instance<HopperWide, Form>(stream, device, args, parts);
    if (tall && enough(hopper_tiles<HopperSquare>(args, parts)))
      return launch_hopper_instance<HopperSquare, Form>(stream, device, args, parts);
    if constexpr (Form == GemmForm::nt)
      if (!enough(hopper_tiles<HopperNarrow>(args, parts)))
        return launch_hopper_instance<HopperSmall, Form>(stream, device, args, parts);
    launch_hopper_instance<HopperNarrow, Form>(stream, device, args, parts);
  }
}

}  // namespace

bool takes_gemm_hopper(GemmForm form, const GemmArguments& args) {
  bool low = false;
  for (const GemmProduct& product : args.products) low |= product.rank > 0;
  if (takes_gemm_hopper_dropped(form, args)) return !low;
  return args.a.direct && args.b.direct && (!low || (args.low_a.direct && args.low_b.direct));
}

void launch_gemm_hopper(Stream stream, const GemmDevice& device, GemmForm form, const GemmArguments& args, int parts) {
  if (args.a.dropped || args.b.dropped) return launch_gemm_hopper_dropped(stream, device, form, args, parts);
  switch (form) {
    case GemmForm::nt:
      return launch_form<GemmForm::nt>(stream, device, args, parts);
    case GemmForm::nn:
      return launch_form<GemmForm::nn>(stream, device, args, parts);
    case GemmForm::tn:
      return launch_form<GemmForm::tn>(stream, device, args, parts);
  }
}

}  // namespace fire::cuda::detail

namespace fire::cuda {

bool has_gemm_hopper() {
  using detail::HopperSmall;
  return gpu::most_threads(detail::gemm_hopper_kernel<HopperSmall, GemmForm::nt, detail::PlainEpilogue, false>) >=
         HopperSmall::threads;
}

}  // namespace fire::cuda
