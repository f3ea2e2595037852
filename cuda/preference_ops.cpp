#include "cuda/checks.h"
#include "cuda/cuda_ops.h"
#include "cuda/preference.h"

namespace fire::cuda {
namespace {

static_assert(sizeof(SliceStatistics) == 6 * sizeof(double) && sizeof(RowGradient) == 6 * sizeof(float));

PreferenceLogits checked(const Tensor& z, const Tensor& zr, int64_t first_column, const Tensor& targets) {
  const bool fits = z.rank() == 2 && (!zr || (zr.rank() == 2 && zr.dim(0) == z.dim(0) && zr.dim(1) == z.dim(1))) &&
                    first_column % vocabulary_slice == 0 && targets.rank() == 2 && targets.dim(1) == 2;
  if (!fits)
    throw Error(Code::internal, "preference loss on " + z.describe() + ", reference " + zr.describe() +
                                    " from column " + std::to_string(first_column) + ", targets " + targets.describe());
  return {z.dim(0), z.dim(1), first_column, targets.i32(), targets.dim(0)};
}

}  // namespace

void CudaOps::preference_statistics(Tensor z, Tensor zr, int64_t first_column, Tensor targets, Tensor statistics,
                                    Tensor target_logits) {
  const PreferenceLogits shape = checked(z, zr, first_column, targets);
  const int64_t last = first_column / vocabulary_slice + vocabulary_slices(shape.columns);
  if (statistics.dtype() != DType::f64 || statistics.rank() != 3 || statistics.dim(0) != shape.rows ||
      statistics.dim(1) < last || statistics.dim(2) != 6 || target_logits.size() != 2 * shape.target_count)
    throw Error(Code::internal, "preference statistics " + statistics.describe() + " and target logits " +
                                    target_logits.describe() + " of " + z.describe());
  launch_preference_statistics(stream_, shape, z.f32(), f32_or_null(zr), static_cast<double*>(statistics.data()),
                               target_logits.f32(), statistics.dim(1));
}

void CudaOps::preference_backward(Tensor z, Tensor zr, int64_t first_column, Tensor rows, Tensor targets,
                                  Tensor coefficients) {
  const PreferenceLogits shape = checked(z, zr, first_column, targets);
  if (rows.size() != shape.rows * 6 || coefficients.size() != shape.target_count)
    throw Error(Code::internal, "preference backward of " + z.describe() + " with rows " + rows.describe() +
                                    " and coefficients " + coefficients.describe());
  launch_preference_backward(stream_, shape, z.f32(), f32_or_null(zr), rows.f32(), coefficients.f32());
}

}  // namespace fire::cuda
