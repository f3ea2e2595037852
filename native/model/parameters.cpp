#include "model/parameters.h"

#include <algorithm>
#include <vector>

namespace fire {

Parameters::Parameters(Ops& ops, int64_t size) : ops_(ops), values_(ops, DType::f32, {size}) {
  ops_.zero(values());
  if (ops.activation_type() == DType::f32) return;
  rounded_.emplace(ops, ops.activation_type(), std::initializer_list<int64_t>{size});
  ops_.zero(rounded_->view());
}

void Parameters::assign(int64_t begin, int64_t count, const float* host) {
  ops_.upload(host, values().slice(begin, begin + count));
  if (!rounded_) return;
  constexpr int64_t piece = int64_t{1} << 20;
  std::vector<bf16> rounded(static_cast<size_t>(std::min(piece, count)));
  for (int64_t at = 0; at < count; at += piece) {
    const int64_t end = std::min(at + piece, count);
    std::transform(host + at, host + end, rounded.begin(), to_bf16);
    ops_.upload(rounded.data(), rounded_->view().slice(begin + at, begin + end));
  }
}

double Parameters::step(const AdamW& settings, Tensor grad, Tensor m, Tensor v) {
  return ops_.adamw(settings, values(), rounded_ ? rounded_->view() : Tensor(), grad, m, v);
}

}  // namespace fire
