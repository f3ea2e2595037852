#include "train/optimizer.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <utility>

#include "tensor/safetensors.h"

namespace fire {

Optimizer::Optimizer(Ops& ops, Adapter& adapter)
    : ops_(ops),
      adapter_(adapter),
      gradient_(ops, DType::f32, {adapter.param().size()}),
      moment1_(ops, DType::f32, {adapter.param().size()}),
      moment2_(ops, DType::f32, {adapter.param().size()}) {
  for (const Tensor& t : {gradient(), moment1(), moment2()}) ops_.zero(t);
}

// What AdamW is defined for, and what f32 can hold.
void require_valid(const AdamWSpec& s) {
  const auto require = [](bool ok, const char* name, const char* what, double value) {
    if (ok) return;
    char message[160];
    std::snprintf(message, sizeof message, "optimizer.%s must be %s, not %g", name, what, value);
    throw Error(Code::invalid_argument, message);
  };
  require(s.lr >= 0 && s.lr <= 1, "lr", "in [0, 1]: AdamW moves every parameter by about lr", s.lr);
  require(s.beta1 >= 0 && s.beta1 < 1, "beta1", "in [0, 1)", s.beta1);
  require(s.beta2 >= 0 && s.beta2 < 1, "beta2", "in [0, 1)", s.beta2);
  require(s.eps >= 1e-30 && s.eps <= 1, "eps", "in [1e-30, 1]", s.eps);
  require(s.weight_decay >= 0 && s.lr * s.weight_decay <= 1, "weightDecay", "from 0 to 1 / lr", s.weight_decay);
  require(s.max_grad_norm >= 0 && std::isfinite(s.max_grad_norm), "maxGradNorm", "a number >= 0", s.max_grad_norm);
}

double Optimizer::update(const AdamWSpec& s) {
  require_valid(s);
  const double norm = adapter_.parameters().step(
      {s.lr, s.beta1, s.beta2, s.eps, s.weight_decay, step_ + 1, s.max_grad_norm}, gradient(), moment1(), moment2());
  zero_grad();
  if (!std::isfinite(norm)) {
    throw Error(Code::nonfinite, "the gradient of step " + std::to_string(step_ + 1) +
                                     " is not finite; the adapter was left as it was before the step");
  }
  ++step_;
  adapter_.require_finite("after step " + std::to_string(step_));
  return norm;
}

void Optimizer::save(const std::string& directory) const {
  adapter_.require_finite("after step " + std::to_string(step_));
  for (const auto& [name, moment] : {std::pair{"first", moment1()}, {"second", moment2()}})
    if (!std::isfinite(ops_.norm(moment)))
      throw Error(Code::nonfinite, "the " + std::string(name) + " moment of AdamW is not finite after step " +
                                       std::to_string(step_) + "; nothing was saved");
  make_directories(directory);
  int64_t step = step_;
  const Tensor host_step(&step, DType::i64, {1});
  const auto download = [&](const Tensor& piece, void* host) {
    if (piece.dtype() == DType::i64) {
      std::memcpy(host, piece.data(), piece.bytes());
    } else {
      ops_.download(piece, host);
    }
  };
  write_safetensors(
      directory + "/optimizer.safetensors",
      {{"param", adapter_.param()}, {"exp_avg", moment1()}, {"exp_avg_sq", moment2()}, {"step", host_step}},
      {{"format", "fire-train optimizer 2"}}, download);
}

void Optimizer::load(const std::string& directory) {
  const SafeTensors file = SafeTensors::open_file(directory + "/optimizer.safetensors");
  auto checked = [&](const char* name, DType dtype, int64_t size) {
    const Tensor& t = file.at(name);
    if (t.dtype() != dtype || t.size() != size)
      throw Error(Code::checkpoint, file.origin() + ": \"" + name + "\" is " + t.describe() + ", this adapter needs " +
                                        Tensor(nullptr, dtype, {size}).describe() +
                                        "; was it saved with other LoRA settings?");
    return t;
  };
  const int64_t size = adapter_.param().size();
  const Tensor param = checked("param", DType::f32, size), m = checked("exp_avg", DType::f32, size);
  const Tensor v = checked("exp_avg_sq", DType::f32, size);
  // Format 1 has the step and a counter of dropout, of which nothing depends any more.
  const bool old = file.tensors().count("counters") > 0;
  const Tensor step = old ? checked("counters", DType::i64, 2) : checked("step", DType::i64, 1);
  for (const Tensor& t : {param, m, v})
    for (int64_t i = 0; i < size; ++i)
      if (!std::isfinite(t.f32()[i]))
        throw Error(Code::nonfinite, file.origin() + " holds a value that is not finite; delete this checkpoint")
            .with("path", file.origin());
  const int64_t updates = *static_cast<const int64_t*>(step.data());
  if (updates < 0 || updates > int64_t{1} << 53)
    throw Error(Code::checkpoint, file.origin() + ": the step is out of range").with("path", file.origin());
  file.reading([&] {
    adapter_.parameters().assign(0, size, param.f32());
    ops_.upload(m.data(), moment1());
    ops_.upload(v.data(), moment2());
  });
  step_ = updates;
  zero_grad();
}

}  // namespace fire
