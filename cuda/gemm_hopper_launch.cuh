// Which tile a product takes on Hopper, and its factors as the tensor memory accelerator sees them.
#pragma once

#include "cuda/gemm_hopper.cuh"

namespace fire::cuda::detail {

/// `products`: of a tile.
template <class Tile>
int64_t hopper_tiles(const GemmArguments& args, int parts, int products) {
  const auto along = [](int64_t length, int side) { return (length + side - 1) / side; };
  int64_t columns = 0;
  for (int i = 0; i < args.columns; ++i) columns += along(args.products[i].n, Tile::BN / products);
  return along(args.m_end - args.m_begin, Tile::BM) * columns * parts;
}

/// A factor whose boxes are 64 columns wide.
inline TensorMap hopper_map(const void* data, int64_t rows, int64_t cols, int box_rows) {
  return encode_tensor_map({data, DType::bf16, rows, cols, cols, box_rows, 64, Swizzle::bytes_128});
}

// Encoded for each launch, up to twelve maps and those of the epilogue: arithmetic of the host, which is ahead of the
// GPU. Not yet timed.
template <class Tile, GemmForm Form, class Epilogue>
void launch_epilogue(Stream stream, const GemmDevice& device, const GemmArguments& gemm, int parts,
                     const Epilogue& epilogue) {
  using Shape = HopperShape<Tile, Form, Epilogue::products>;
  HopperArguments<Epilogue> args{};
  args.gemm = gemm;
  args.epilogue = epilogue;
  const int blocks = device.multiprocessors * Tile::blocks;
  args.tiles = args.whole = static_cast<int>(hopper_tiles<Tile>(gemm, parts, Epilogue::products));
  if (const int left = args.tiles % blocks; Tile::halves && 2 * left <= blocks) args.tiles += left, args.whole -= left;
  const auto map_a = [&](const void* data, int k) {
    return Shape::a_transposed ? hopper_map(data, k, gemm.m, Shape::BK) : hopper_map(data, gemm.m, k, Shape::a_box);
  };
  const auto map_b = [&](const void* data, int n, int k) {
    return Shape::b_transposed ? hopper_map(data, k, n, Shape::BK) : hopper_map(data, n, k, Shape::b_box);
  };
  for (int i = 0; i < std::max({gemm.columns, gemm.terms.count, Epilogue::products}); ++i) {
    const GemmProduct& p = gemm.products[i];
    if (p.n == 0) continue;  // beside others: it has no tile
    HopperMaps& maps = args.maps[i];
    if (p.k > 0) maps.a = map_a(p.a, p.k), maps.b = map_b(p.b, p.n, p.k);
    if (p.rank > 0) maps.low_a = map_a(p.low_a, p.rank), maps.low_b = map_b(p.low_b, p.n, p.rank);
  }
  const unsigned grid = static_cast<unsigned>(std::min(args.tiles, blocks));
  gpu::launch(Epilogue::kernel, dim3(grid), dim3(Tile::threads), Shape::shared_bytes(Epilogue::warp_bytes), stream,
              gemm_hopper_kernel<Tile, Form, Epilogue>, args);
}

/// f(tile), the largest that still gives most multiprocessors one.
template <GemmForm Form, int Products = 1, class F>
void with_tile(int multiprocessors, const GemmArguments& args, int parts, const F& f) {
  if constexpr (Form == GemmForm::tn) {  // parts are cut by tiles of this size (gemm_chunk)
    f(HopperSquare());
  } else {
    int widest = 0;
    for (int i = 0; i < args.columns; ++i) widest = std::max(widest, args.products[i].n * Products);
    const bool tall = args.m_end - args.m_begin > 64;
    const auto enough = [&](auto tile) {
      return 4 * hopper_tiles<decltype(tile)>(args, parts, Products) >= 3 * int64_t{multiprocessors};
    };
    if (tall && widest > 128 && enough(HopperWide())) return f(HopperWide());
    if (tall && enough(HopperSquare())) return f(HopperSquare());
    if constexpr (Form == GemmForm::nt)
      if (!enough(HopperNarrow())) return f(HopperSmall());
    f(HopperNarrow());
  }
}

}  // namespace fire::cuda::detail
