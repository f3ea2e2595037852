#include "cuda/checks.h"
#include "cuda/cuda_ops.h"
#include "cuda/rows.h"

namespace fire::cuda {
namespace {

/// `many` [any, columns] and one row of `few` [count, columns] for each index.
bool are_indexed(const Tensor& many, const Tensor& index, const Tensor& few) {
  return many.dtype() == few.dtype() && many.cols() == few.cols() && few.size() == index.size() * few.cols();
}

int64_t row_bytes(const Tensor& x) { return x.cols() * static_cast<int64_t>(size_of(x.dtype())); }

}  // namespace

void CudaOps::embedding(Tensor ids, Tensor table, Tensor y) {
  require(are_indexed(table, ids, y), "embedding", {ids, table, y});
  launch_gather_rows(stream_, table.data(), ids.i32(), y.data(), ids.size(), row_bytes(table));
}

void CudaOps::gather_rows(Tensor x, Tensor rows, Tensor y) {
  require(are_indexed(x, rows, y), "gather_rows", {x, rows, y});
  launch_gather_rows(stream_, x.data(), rows.i32(), y.data(), rows.size(), row_bytes(x));
}

void CudaOps::scatter_rows(Tensor x, Tensor rows, Tensor y) {
  require(are_indexed(y, rows, x), "scatter_rows", {x, rows, y});
  launch_scatter_rows(stream_, x.data(), rows.i32(), y.data(), rows.size(), row_bytes(x));
}

void CudaOps::scatter_add_rows(Tensor x, Tensor rows, Tensor y) {
  require(are_indexed(y, rows, x), "scatter_add_rows", {x, rows, y});
  launch_scatter_add_rows(stream_, x.dtype(), x.data(), rows.i32(), y.data(), rows.size(), x.cols());
}

void CudaOps::add(Tensor x, Tensor y) {
  require(alike(x, y), "add", {x, y});
  launch_add(stream_, x.dtype(), x.data(), y.data(), x.size());
}

void CudaOps::interpolate_positions(Tensor table, int64_t grid_h, int64_t grid_w, int64_t merge, Tensor y) {
  int64_t side = 0;
  while (side * side < table.rows()) ++side;
  require(side * side == table.rows() && merge > 0 && grid_h % merge == 0 && grid_w % merge == 0 &&
              y.size() == grid_h * grid_w * table.cols() && y.dtype() == table.dtype() && grid_h * grid_w <= INT32_MAX,
          "interpolate_positions", {table, y});
  launch_interpolate_positions(stream_, table.dtype(), table.data(), y.data(), side, grid_h, grid_w, merge,
                               table.cols());
}

}  // namespace fire::cuda
