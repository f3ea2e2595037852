// Which tile a product takes on Hopper, and its factors as the tensor memory accelerator sees them.
#include "cuda/gemm_hopper.cuh"
#include "cuda/gemm_hopper.h"

namespace fire::cuda::detail {
namespace {

template <class Tile>
int64_t hopper_tiles(const GemmArguments& args, int parts) {
  const auto along = [](int64_t length, int side) { return (length + side - 1) / side; };
  int64_t columns = 0;
  for (int i = 0; i < args.columns; ++i) columns += along(args.products[i].n, Tile::BN);
  return along(args.m_end - args.m_begin, Tile::BM) * columns * parts;
}

/// A factor whose boxes are 64 columns wide.
TensorMap hopper_map(const void* data, int64_t rows, int64_t cols, int box_rows) {
  return encode_tensor_map({data, DType::bf16, rows, cols, cols, box_rows, 64, Swizzle::bytes_128});
}

// Encoded for each launch, up to twelve maps: arithmetic of the host, which is ahead of the GPU. Not yet timed.
template <class Tile, GemmForm Form, class Epilogue>
void launch_epilogue(Stream stream, const GemmDevice& device, const GemmArguments& gemm, int parts,
                     const Epilogue& epilogue) {
  using Shape = HopperShape<Tile, Form>;
  HopperArguments<Epilogue> args{};
  args.gemm = gemm;
  args.epilogue = epilogue;
  const int blocks = device.multiprocessors * Tile::blocks;
  args.tiles = args.whole = static_cast<int>(hopper_tiles<Tile>(gemm, parts));
  if (const int left = args.tiles % blocks; Tile::halves && 2 * left <= blocks) args.tiles += left, args.whole -= left;
  const auto map_a = [&](const void* data, int k) {
    return Shape::a_transposed ? hopper_map(data, k, gemm.m, Shape::BK) : hopper_map(data, gemm.m, k, Shape::a_box);
  };
  const auto map_b = [&](const void* data, int n, int k) {
    return Shape::b_transposed ? hopper_map(data, k, n, Shape::BK) : hopper_map(data, n, k, Shape::b_box);
  };
  for (int i = 0; i < std::max(gemm.columns, gemm.terms.count); ++i) {
    const GemmProduct& p = gemm.products[i];
    if (p.n == 0) continue;  // beside others: it has no tile
    HopperMaps& maps = args.maps[i];
    if (p.k > 0) maps.a = map_a(p.a, p.k), maps.b = map_b(p.b, p.n, p.k);
    if (p.rank > 0) maps.low_a = map_a(p.low_a, p.rank), maps.low_b = map_b(p.low_b, p.n, p.rank);
  }
  const unsigned grid = static_cast<unsigned>(std::min(args.tiles, blocks));
  gpu::launch("gemm sm_90a", dim3(grid), dim3(Tile::threads), Shape::shared_bytes(Epilogue::warp_bytes), stream,
              gemm_hopper_kernel<Tile, Form, Epilogue>, args);
}

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
      return launch_epilogue<Tile, Form>(stream, device, args, parts, epilogue);
    }
  }
  launch_epilogue<Tile, Form>(stream, device, args, parts, PlainEpilogue());
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
    const auto enough = [&](int64_t tiles) { return 4 * tiles >= 3 * int64_t{multiprocessors}; };
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
