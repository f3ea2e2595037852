// How a launch of gemm.h becomes arguments of its kernel, and which tile it takes.
#pragma once

#include <limits>
#include <string>

#include "cuda/gemm.cuh"
#include "cuda/gemm_hopper.h"
#include "cuda/rows.h"
#include "tensor/error.h"

namespace fire::cuda::detail {

/// Tiles of `side` x `side` over all Y.
inline int64_t gemm_tiles(const GemmArguments& args, int side) {
  const auto along = [side](int64_t length) { return (length + side - 1) / side; };
  int64_t columns = 0;
  for (int i = 0; i < args.columns; ++i) columns += along(args.products[i].n);
  return along(args.m_end - args.m_begin) * columns;
}

template <class T, class Tile, GemmForm Form, bool Direct>
void launch_gemm_instance(Stream stream, GemmArguments args, int parts) {
  constexpr int BK = GemmShape<T, Tile, Form>::BK;
  GemmTerms& terms = args.terms;  // counted in slices of this tile
  const auto place = [&](int& slices, int(&first)[gemm_most], int GemmProduct::*length) {
    for (int i = 0; i < gemm_most; ++i) {
      first[i] = i < terms.count ? slices : std::numeric_limits<int>::max();
      if (i < terms.count) slices += (args.products[i].*length + BK - 1) / BK;
    }
  };
  place(terms.low_slices = 0, terms.first_low, &GemmProduct::rank);
  place(terms.slices = terms.low_slices, terms.first, &GemmProduct::k);
  gpu::launch("gemm", dim3(static_cast<unsigned>(gemm_tiles(args, Tile::BN)), static_cast<unsigned>(parts)),
              dim3(Tile::threads), GemmShape<T, Tile, Form>::shared_bytes, stream, gemm_kernel<T, Tile, Form, Direct>,
              args);
}

template <class T, class Tile, GemmForm Form>
void launch_gemm_tile(Stream stream, const GemmArguments& args, int parts) {
  args.a.direct&& args.b.direct ? launch_gemm_instance<T, Tile, Form, true>(stream, args, parts)
                                : launch_gemm_instance<T, Tile, Form, false>(stream, args, parts);
}

/// The largest tile that still gives a GPU enough blocks.
template <class T, GemmForm Form>
void launch_gemm_form(Stream stream, const GemmDevice& device, const GemmArguments& args, int parts) {
  constexpr int64_t enough = 96;
  int shorter = 0;
  for (int i = 0; i < args.columns; ++i)
    shorter = std::max(shorter, std::min(args.m_end - args.m_begin, args.products[i].n));
  const auto blocks = [&](int side) { return gemm_tiles(args, side) * parts; };
  if (shorter > 64 && blocks(128) >= enough) {
    if constexpr (sizeof(T) == sizeof(bf16))
      if (args.a.direct && args.b.direct &&
          device.shared_bytes >= WideTile::blocks * (GemmShape<T, WideTile, Form>::shared_bytes + block_overhead))
        return launch_gemm_instance<T, WideTile, Form, true>(stream, args, parts);
    return launch_gemm_tile<T, LargeTile, Form>(stream, args, parts);
  }
  if (shorter > 32 && blocks(64) >= enough) return launch_gemm_tile<T, MediumTile, Form>(stream, args, parts);
  launch_gemm_tile<T, SmallTile, Form>(stream, args, parts);
}

inline int gemm_dimension(int64_t value) {
  if (value < 0 || value > int64_t{1} << 30)
    throw Error(Code::internal, "a matrix product with a side of " + std::to_string(value));
  return static_cast<int>(value);
}

inline bool aligned_rows(const void* data, int64_t cols, size_t element, size_t bytes) {
  return reinterpret_cast<uintptr_t>(data) % bytes == 0 && static_cast<size_t>(cols) * element % bytes == 0;
}

template <class T>
FactorRoad road(const GemmFactor& factor, int64_t cols) {
  const size_t element = size_of(factor.type);
  return {factor.type == DType::f32, element == sizeof(T) && !factor.dropped && in_pieces(factor, cols),
          aligned_rows(factor.data, cols, element, 4 * element), factor.dropped};
}

inline GemmProduct gemm_product(const Gemm& gemm) {
  GemmProduct product{};
  product.n = gemm_dimension(gemm.n), product.k = gemm_dimension(gemm.k), product.rank = gemm_dimension(gemm.rank);
  product.a = gemm.a.data, product.b = gemm.b.data;
  product.low_a = gemm.low_a.data, product.low_b = gemm.low_b.data;
  product.alpha = gemm.alpha, product.low_scale = gemm.low_scale;
  product.low_masked = gemm.low_masked;
  product.mask = gemm.mask;
  product.bias = gemm.bias;
  product.residual = gemm.residual;
  product.residual_f32 = gemm.residual_type == DType::f32;
  product.residual_vector = aligned_rows(gemm.residual, gemm.n, size_of(gemm.residual_type), 16);
  product.y = gemm.y;
  product.y_f32 = gemm.y_type == DType::f32;
  product.y_vector = aligned_rows(gemm.y, gemm.n, size_of(gemm.y_type), 16);
  return product;
}

template <class T>
GemmArguments gemm_arguments(const Gemm* gemms, int count, GemmJoin join) {
  const bool summed = join == GemmJoin::summed;
  GemmArguments args{};
  args.m = args.m_end = gemm_dimension(gemms->m);
  args.terms.count = summed ? count : 1, args.columns = summed ? 1 : count;
  bool low = false;
  for (int i = 0; i < count; ++i) {
    const Gemm& gemm = gemms[i];
    const bool tn = gemm.form == GemmForm::tn, nt = gemm.form == GemmForm::nt;
    args.products[i] = gemm_product(gemm);
    args.chunk = std::max(args.chunk, gemm_dimension(gemm_chunk(gemm)));
    const auto take = [](FactorRoad& taken, bool is_first, const FactorRoad& road) {
      if (is_first) taken = road;
      taken.direct &= road.direct, taken.vector &= road.vector;
    };
    take(args.a, i == 0, road<T>(gemm.a, tn ? gemm.m : gemm.k));
    take(args.b, i == 0, road<T>(gemm.b, nt ? gemm.k : gemm.n));
    if (gemm.rank == 0) continue;
    take(args.low_a, !low, road<T>(gemm.low_a, gemm.rank));
    take(args.low_b, !low, road<T>(gemm.low_b, nt ? gemm.rank : gemm.n));
    low = true;
  }
  return args;
}

template <class T>
void launch_gemm_rows(Stream stream, const GemmDevice& device, GemmForm form, const GemmArguments& args, int parts) {
  if (sizeof(T) == sizeof(bf16) && device.hopper) {
    if (takes_gemm_hopper(args)) return launch_gemm_hopper(stream, device, form, args, parts);
    if (takes_gemm_hopper_dropped(form, args)) return launch_gemm_hopper_dropped(stream, device, form, args, parts);
  }
  switch (form) {
    case GemmForm::nt:
      return launch_gemm_form<T, GemmForm::nt>(stream, device, args, parts);
    case GemmForm::nn:
      return launch_gemm_form<T, GemmForm::nn>(stream, device, args, parts);
    case GemmForm::tn:
      return launch_gemm_form<T, GemmForm::tn>(stream, device, args, parts);
  }
}

/// Rows of Y from `row` on.
inline GemmProduct rows_from(const Gemm& gemm, GemmProduct product, int64_t row) {
  const size_t at = static_cast<size_t>(row * product.n);
  if (product.residual != nullptr)
    product.residual = static_cast<const unsigned char*>(product.residual) + at * size_of(gemm.residual_type);
  product.y = static_cast<unsigned char*>(product.y) + at * size_of(gemm.y_type);
  return product;
}

/// A B alone, in f32.
inline GemmProduct sums_of(GemmProduct product, float* sums) {
  product.alpha = 1;
  product.bias = nullptr, product.residual = nullptr;
  product.y = sums;
  product.y_f32 = true;
  product.y_vector = aligned_rows(sums, product.n, sizeof(float), 16);
  return product;
}

/// `rows` rows of Y, of parts that lie one behind the other.
template <class T>
void add_parts(Stream stream, const GemmProduct& y, const float* parts, int count, int64_t rows) {
  PartsArguments sum{};
  sum.parts = parts, sum.count = count;
  sum.n = y.n, sum.rows = rows;
  sum.alpha = y.alpha;
  sum.bias = y.bias;
  sum.residual = y.residual, sum.y = y.y;
  sum.parts_vector = aligned_rows(parts, y.n, sizeof(float), 16);
  sum.residual_f32 = y.residual_f32, sum.residual_vector = y.residual_vector;
  sum.y_f32 = y.y_f32, sum.y_vector = y.y_vector;
  gpu::launch("add parts", dim3(blocks_for(sum.rows * ((sum.n + 7) / 8), 256)), dim3(256), 0, stream,
              add_parts_kernel<T>, sum);
}

/// As many of the m rows of Y as the workspace holds, of which each needs `row_bytes`.
inline int64_t workspace_rows(const GemmDevice& device, int64_t m, int64_t row_bytes, int parts) {
  const int64_t rows = std::min(m, static_cast<int64_t>(device.workspace_bytes) / row_bytes);
  if (rows == 0)
    throw Error(Code::internal, "a matrix product of " + std::to_string(parts) + " parts has no workspace");
  return rows < m && rows > LargeTile::BM ? rows - rows % LargeTile::BM : rows;
}

/// The parts of as many rows as the workspace holds at a time, then their sum.
template <class T>
void launch_gemm_parts(Stream stream, const GemmDevice& device, const Gemm& gemm, GemmArguments args) {
  const GemmProduct whole = args.products[0];
  const int64_t m = args.m;
  const int parts = (whole.k + args.chunk - 1) / args.chunk;
  const int64_t rows = workspace_rows(device, m, int64_t{parts} * whole.n * static_cast<int64_t>(sizeof(float)), parts);
  args.products[0] = sums_of(whole, device.workspace);
  for (int64_t begin = 0; begin < m; begin += rows) {
    const int64_t end = std::min(begin + rows, m);
    args.m_begin = static_cast<int>(begin), args.m_end = static_cast<int>(end);
    args.part_stride = (end - begin) * whole.n;
    launch_gemm_rows<T>(stream, device, gemm.form, args, parts);
    add_parts<T>(stream, rows_from(gemm, whole, begin), device.workspace, parts, end - begin);
  }
}

/// Whether Hopper's kernel takes this product once A, a gradient in f32, is rounded to bf16 beforehand.
template <class T>
bool rounds_beforehand(const GemmDevice& device, const Gemm& gemm, const GemmArguments& args) {
  return sizeof(T) == sizeof(bf16) && device.hopper && gemm.form == GemmForm::nn && gemm.a.type == DType::f32 &&
         !gemm.a.dropped && gemm.rank == 0 && args.b.direct && gemm.k > 0 && gemm.k % 8 == 0 &&
         in_pieces(gemm.a, gemm.k);
}

/// The workspace holds a part of A or more of them, rounded, and behind it their sums: those so far, then a part each.
/// The parts are those of launch_gemm_parts, and they are added in the same order.
template <class T>
void launch_gemm_rounded(Stream stream, const GemmDevice& device, const Gemm& gemm, GemmArguments args) {
  const GemmProduct whole = args.products[0];
  const int64_t m = args.m, n = whole.n, k = whole.k, chunk = args.chunk;
  const int parts = static_cast<int>((k + chunk - 1) / chunk);
  // Bytes of a row. All rows with fewer parts rather than fewer rows: B is read once.
  const int64_t sum_bytes = parts > 1 ? n * static_cast<int64_t>(sizeof(float)) : 0;
  const int64_t part_bytes = chunk * static_cast<int64_t>(sizeof(bf16)) + sum_bytes;
  const int64_t room = (static_cast<int64_t>(device.workspace_bytes) / m - sum_bytes) / part_bytes;
  const int together = static_cast<int>(std::clamp<int64_t>(room, 1, parts));
  const int64_t rows = workspace_rows(device, m, together * part_bytes + sum_bytes, parts);
  bf16* const rounded = reinterpret_cast<bf16*>(device.workspace);
  float* const sums = reinterpret_cast<float*>(rounded + rows * together * chunk);

  args.a = road<T>({rounded, DType::bf16}, k);
  for (int64_t begin = 0; begin < m; begin += rows) {
    const int64_t count = std::min(rows, m - begin);
    const GemmProduct y = rows_from(gemm, whole, begin);
    args.m = args.m_end = static_cast<int>(count);
    args.part_stride = count * n;
    for (int part = 0; part < parts; part += together) {
      const int64_t first = part * chunk, columns = std::min(k - first, together * chunk);
      const int here = static_cast<int>((columns + chunk - 1) / chunk);
      launch_round_rows(stream, static_cast<const float*>(whole.a) + begin * k + first, rounded, count, columns, k);
      float* const own = sums + count * n;
      GemmProduct& product = args.products[0] = parts > 1 ? sums_of(whole, own) : y;
      product.a = rounded, product.b = static_cast<const bf16*>(whole.b) + first * n;
      product.k = static_cast<int>(columns);
      launch_gemm_hopper(stream, device, gemm.form, args, here);
      if (parts == 1) continue;
      const bool last = part + here == parts;
      if (part == 0)
        add_parts<T>(stream, last ? y : sums_of(whole, sums), own, here, count);
      else
        add_parts<T>(stream, last ? y : sums_of(whole, sums), sums, 1 + here, count);
    }
  }
}

}  // namespace fire::cuda::detail

namespace fire::cuda {

template <class T>
void launch_gemm(Stream stream, const GemmDevice& device, const Gemm* gemms, int count, GemmJoin join) {
  if (!gemm_joins(gemms, count, join)) throw Error(Code::internal, "matrix products that are no one launch");
  const detail::GemmArguments args = detail::gemm_arguments<T>(gemms, count, join);
  if (detail::gemm_tiles(args, 1) == 0) return;
  if (count == 1 && detail::rounds_beforehand<T>(device, *gemms, args))
    return detail::launch_gemm_rounded<T>(stream, device, *gemms, args);
  gemm_in_parts(*gemms) ? detail::launch_gemm_parts<T>(stream, device, *gemms, args)
                        : detail::launch_gemm_rows<T>(stream, device, gemms->form, args, 1);
}

}  // namespace fire::cuda
