// Which tile a product takes on Hopper, and what becomes of its sums.
#include "cuda/gemm_hopper_launch.cuh"

namespace fire::cuda::detail {
namespace {

/// Whether TMA can store all Y and fetch what is added to them.
bool takes_staged(const GemmArguments& args, int parts) {
  bool takes = parts == 1;
  for (int i = 0; i < args.columns; ++i) {
    const GemmProduct& p = args.products[i];
    takes &= !p.y_f32 && p.y_vector && (p.residual == nullptr || (!p.residual_f32 && p.residual_vector));
  }
  return takes;
}

template <class Tile, GemmForm Form>
void launch_instance(Stream stream, const GemmDevice& device, const GemmArguments& args, int parts) {
  // Gradients of weights are f32, and few rows are not worth the way.
  if constexpr (Form != GemmForm::tn && Tile::BN >= 2 * StagedEpilogue::piece_columns) {
    if (takes_staged(args, parts)) {
      StagedEpilogue epilogue{};
      for (int i = 0; i < args.columns; ++i) {
        const GemmProduct& p = args.products[i];
        const auto map = [&](const void* data, int box_rows) {
          return hopper_map(data, args.m_end - args.m_begin, p.n, box_rows);
        };
        if (p.n == 0) continue;
        epilogue.y[i] = map(p.y, 16);
        if (p.residual != nullptr) epilogue.residual[i] = map(p.residual, Tile::BM);
      }
      return launch_hopper_instance<Tile, Form>(stream, device, args, parts, epilogue);
    }
  }
  launch_hopper_instance<Tile, Form>(stream, device, args, parts, PlainEpilogue());
}

/// f(tile), the largest that still gives most multiprocessors one.
template <GemmForm Form, class F>
void with_tile(int multiprocessors, const GemmArguments& args, int parts, const F& f) {
  if constexpr (Form == GemmForm::tn) {  // parts are cut by tiles of this size (gemm_chunk)
    f(HopperSquare());
  } else {
    int widest = 0;
    for (int i = 0; i < args.columns; ++i) widest = std::max(widest, args.products[i].n);
    const bool tall = args.m_end - args.m_begin > 64;
    const auto enough = [&](int64_t tiles) { return enough_tiles(multiprocessors, tiles); };
    if (tall && widest > 128 && enough(hopper_tiles<HopperWide>(args, parts))) return f(HopperWide());
    if (tall && enough(hopper_tiles<HopperSquare>(args, parts))) return f(HopperSquare());
    if constexpr (Form == GemmForm::nt)
      if (!enough(hopper_tiles<HopperNarrow>(args, parts))) return f(HopperSmall());
    f(HopperNarrow());
  }
}

template <class F>
void with_form(GemmForm form, const F& f) {
  switch (form) {
    case GemmForm::nt:
      return f(std::integral_constant<GemmForm, GemmForm::nt>());
    case GemmForm::nn:
      return f(std::integral_constant<GemmForm, GemmForm::nn>());
    case GemmForm::tn:
      return f(std::integral_constant<GemmForm, GemmForm::tn>());
  }
}

}  // namespace

bool takes_gemm_hopper(const GemmArguments& args) {
  bool low = false;
  for (const GemmProduct& product : args.products) low |= product.rank > 0;
  return args.a.direct && args.b.direct && (!low || (args.low_a.direct && args.low_b.direct));
}

void launch_gemm_hopper(Stream stream, const GemmDevice& device, GemmForm form, const GemmArguments& args, int parts) {
  with_form(form, [&](auto of) {
    with_tile<of>(device.multiprocessors, args, parts,
                  [&](auto tile) { launch_instance<decltype(tile), of>(stream, device, args, parts); });
  });
}

}  // namespace fire::cuda::detail

namespace fire::cuda {

HopperTileSize hopper_tile_size(GemmForm form, int m, const int* n, int count, int multiprocessors) {
  detail::GemmArguments args{};
  args.m_end = m;
  args.columns = count;
  for (int i = 0; i < count; ++i) args.products[i].n = n[i];
  HopperTileSize size{};
  detail::with_form(form, [&](auto of) {
    detail::with_tile<of>(multiprocessors, args, 1, [&](auto tile) {
      using Tile = decltype(tile);
      size = {Tile::BM, Tile::BN, Tile::blocks};
    });
  });
  return size;
}

bool has_gemm_hopper() {
  using detail::HopperSmall;
  return gpu::most_threads(detail::gemm_hopper_kernel<HopperSmall, GemmForm::nt, detail::PlainEpilogue>) >=
         HopperSmall::threads;
}

}  // namespace fire::cuda
