// Hands out the tensors of a checkpoint by name. Each is claimed once and checked for its shape; one that is missing,
// misshapen or left over is an error that names it.
#pragma once

#include <initializer_list>
#include <set>
#include <string>
#include <vector>

#include "ops/ops.h"
#include "tensor/safetensors.h"

namespace fire {

/// y = x weight^T + bias, or the scale and shift of a norm.
struct LinearWeights {
  Tensor weight, bias;
};

class Claims {
 public:
  Claims(const SafeTensors& file, Ops& ops) : file_(file), ops_(ops) {}

  /// The tensor as its device uses it (see Ops::adopt), in the shape it has in the file.
  Tensor take(const std::string& name, std::initializer_list<int64_t> shape) { return adopt(checked(name, shape)); }
  /// The same numbers in another shape.
  Tensor take_as(const std::string& name, std::initializer_list<int64_t> shape, std::initializer_list<int64_t> as) {
    return adopt(checked(name, shape).reshape(as));
  }
  LinearWeights linear(const std::string& name, int64_t out, int64_t in) {
    return {take(name + ".weight", {out, in}), take(name + ".bias", {out})};
  }
  LinearWeights layer_norm(const std::string& name, int64_t width) {
    return {take(name + ".weight", {width}), take(name + ".bias", {width})};
  }

  bool has(const std::string& name) const { return file_.find(name) != nullptr; }
  /// The first of `prefixes` under which the checkpoint has `name`; throws with the first if none does.
  std::string prefix_of(const std::string& name, const std::vector<std::string>& prefixes) const;

  /// Known to be there and not needed.
  void skip(const std::string& name) { taken_.insert(name); }
  /// Throws for tensors that nobody claimed.
  void refuse_leftovers() const;

  int64_t parameters() const { return parameters_; }
  /// On a GPU what the copies take, on a CPU the claimed part of the file.
  size_t bytes() const { return bytes_; }

 private:
  Tensor checked(const std::string& name, std::initializer_list<int64_t> shape);
  Tensor adopt(const Tensor& host);

  const SafeTensors& file_;
  Ops& ops_;
  std::set<std::string> taken_;
  int64_t parameters_ = 0;
  size_t bytes_ = 0;
};

}  // namespace fire
