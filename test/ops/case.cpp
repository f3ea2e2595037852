#include "ops/case.h"

#include <algorithm>
#include <cmath>

namespace fire::test {

std::vector<DType> Target::row_types() const {
  if (!gpu) return {DType::f32};
  return {DType::f32, DType::bf16};
}

int64_t Argument::size() const {
  int64_t n = 1;
  for (const int64_t d : dims) n *= d;
  return n;
}

double Case::bytes() const {
  double sum = 0;
  for (const Argument& a : arguments)
    sum += static_cast<double>(a.size()) * static_cast<double>(size_of(a.type)) * (a.read() + a.written());
  return sum;
}

std::string by(const std::vector<int64_t>& dims) {
  std::string text;
  for (const int64_t d : dims) text += (text.empty() ? "" : "x") + std::to_string(d);
  return text;
}

Doubles within(const Doubles& values, double units) {
  Doubles tolerance = values;
  for (double& x : tolerance) x = units * u * std::max(1.0, std::abs(x));
  return tolerance;
}

Doubles rounded(Doubles values, DType type) {
  if (type == DType::f64) return values;
  for (double& x : values) {
    const float narrow = static_cast<float>(x);
    x = type == DType::bf16 ? to_float(to_bf16(narrow)) : narrow;
  }
  return values;
}

std::vector<int64_t> sampled(int64_t count, int64_t most) {
  std::vector<int64_t> indices(static_cast<size_t>(std::min(count, most)));
  const int64_t steps = std::max<int64_t>(1, static_cast<int64_t>(indices.size()) - 1);
  for (size_t i = 0; i < indices.size(); ++i) indices[i] = static_cast<int64_t>(i) * (count - 1) / steps;
  return indices;
}

std::vector<Operation>& operations() {
  static std::vector<Operation> all;
  return all;
}

bool add_operation(const char* name, CaseList cases) {
  operations().push_back({name, cases});
  return true;
}

}  // namespace fire::test
