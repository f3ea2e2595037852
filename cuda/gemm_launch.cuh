// How a launch of gemm.h becomes arguments of its kernel, and which tile it takes.
#pragma once

#include <limits>
#include <string>

#include "cuda/gemm.cuh"
#include "cuda/gemm_hopper.h"
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
  if (sizeof(T) == sizeof(bf16) && device.hopper && takes_gemm_hopper(args))
    return launch_gemm_hopper(stream, device, form, args, parts);
  switch (form) {
    case GemmForm::nt:
      return launch_gemm_form<T, GemmForm::nt>(stream, device, args, parts);
    case GemmForm::nn:
      return launch_gemm_form<T, GemmForm::nn>(stream, device, args, parts);
    case GemmForm::tn:
      return launch_gemm_form<T, GemmForm::tn>(stream, device, args, parts);
  }
}

/// The parts of as many rows as the workspace holds at a time, then their sum.
template <class T>
void launch_gemm_parts(Stream stream, const GemmDevice& device, const Gemm& gemm, GemmArguments args) {
  const GemmProduct whole = args.products[0];
  const int m = args.m, parts = (whole.k + args.chunk - 1) / args.chunk;
  const int64_t row_bytes = int64_t{parts} * whole.n * static_cast<int64_t>(sizeof(float));
  int64_t rows = static_cast<int64_t>(device.workspace_bytes) / row_bytes;
  if (rows < m && rows > LargeTile::BM) rows -= rows % LargeTile::BM;
  if (rows == 0)
    throw Error(Code::internal, "a matrix product of " + std::to_string(parts) + " parts has no workspace");

  GemmProduct& part = args.products[0];
  part.alpha = 1;
  part.bias = nullptr, part.residual = nullptr;
  part.y = device.workspace;
  part.y_f32 = true;
  part.y_vector = aligned_rows(device.workspace, whole.n, sizeof(float), 16);
  for (int64_t begin = 0; begin < m; begin += rows) {
    const int64_t end = std::min<int64_t>(begin + rows, m);
    args.m_begin = static_cast<int>(begin), args.m_end = static_cast<int>(end);
    args.part_stride = (end - begin) * whole.n;
    launch_gemm_rows<T>(stream, device, gemm.form, args, parts);

    PartsArguments sum{};
    sum.parts = device.workspace, sum.count = parts;
    sum.n = whole.n, sum.rows = end - begin;
    sum.alpha = whole.alpha;
    sum.bias = whole.bias;
    const size_t at = static_cast<size_t>(begin * whole.n);
    if (whole.residual != nullptr)
      sum.residual = static_cast<const unsigned char*>(whole.residual) + at * size_of(gemm.residual_type);
    sum.y = static_cast<unsigned char*>(whole.y) + at * size_of(gemm.y_type);
    sum.parts_vector = part.y_vector;
    sum.residual_f32 = whole.residual_f32, sum.y_f32 = whole.y_f32;
    sum.residual_vector = aligned_rows(sum.residual, whole.n, size_of(gemm.residual_type), 16);
    sum.y_vector = aligned_rows(sum.y, whole.n, size_of(gemm.y_type), 16);
    gpu::launch("add parts", dim3(blocks_for(sum.rows * ((sum.n + 7) / 8), 256)), dim3(256), 0, stream,
                add_parts_kernel<T>, sum);
  }
}

}  // namespace fire::cuda::detail

namespace fire::cuda {

template <class T>
void launch_gemm(Stream stream, const GemmDevice& device, const Gemm* gemms, int count, GemmJoin join) {
  if (!gemm_joins(gemms, count, join)) throw Error(Code::internal, "matrix products that are no one launch");
  const detail::GemmArguments args = detail::gemm_arguments<T>(gemms, count, join);
  if (detail::gemm_tiles(args, 1) == 0) return;
  gemm_in_parts(*gemms) ? detail::launch_gemm_parts<T>(stream, device, *gemms, args)
                        : detail::launch_gemm_rows<T>(stream, device, gemms->form, args, 1);
}

}  // namespace fire::cuda
