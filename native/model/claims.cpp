#include "model/claims.h"

#include "tensor/error.h"

namespace fire {

Tensor Claims::checked(const std::string& name, std::initializer_list<int64_t> shape) {
  const Tensor& t = file_.at(name);
  const Tensor want(nullptr, t.dtype(), shape);
  bool same = t.rank() == want.rank();
  for (int i = 0; same && i < t.rank(); ++i) same = t.dim(i) == want.dim(i);
  if (!same)
    throw Error(Code::checkpoint, file_.origin() + ": tensor \"" + name + "\" is " + t.describe() +
                                      ", config.json asks for " + want.describe())
        .with("tensor", name);
  if (!is_weight(t.dtype()))
    throw Error(Code::unsupported, file_.origin() + ": weight \"" + name + "\" is stored as " + fire::name(t.dtype()) +
                                       "; f32, bf16 and f16 are supported")
        .with("tensor", name);
  taken_.insert(name);
  return t;
}

Tensor Claims::adopt(const Tensor& host) {
  parameters_ += host.size();
  const Tensor adopted = ops_.adopt(host);
  bytes_ += ops_.is_gpu() ? Arena::rounded(adopted.bytes()) : adopted.bytes();
  return adopted;
}

std::string Claims::prefix_of(const std::string& name, const std::vector<std::string>& prefixes) const {
  for (const std::string& prefix : prefixes)
    if (has(prefix + name)) return prefix;
  throw Error(Code::checkpoint, file_.origin() + " lacks the tensor \"" + prefixes.front() + name + "\"")
      .with("tensor", prefixes.front() + name);
}

void Claims::refuse_leftovers() const {
  std::string names;
  int count = 0;
  for (const auto& [name, t] : file_.tensors()) {
    // Tables of frequencies that old versions of transformers stored; they follow from the config.
    if (taken_.count(name) || name.ends_with(".inv_freq") || name.ends_with(".position_ids")) continue;
    if (++count <= 3) names += (count > 1 ? ", \"" : "\"") + name + "\"";
  }
  if (count > 0)
    throw Error(Code::checkpoint, file_.origin() + " holds " + std::to_string(count) +
                                      " tensor(s) that the architecture in config.json does not use: " + names +
                                      (count > 3 ? ", ..." : ""));
}

}  // namespace fire
