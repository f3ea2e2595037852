#include "train/optimizer.h"

#include <cmath>
#include <cstring>

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

double Optimizer::update(const AdamWSpec& s) {
  const double norm = ops_.adamw({s.lr, s.beta1, s.beta2, s.eps, s.weight_decay, step_ + 1, s.max_grad_norm},
                                 adapter_.param(), gradient(), moment1(), moment2());
  zero_grad();
  if (!std::isfinite(norm)) {
    throw Error(Code::nonfinite, "the gradient of step " + std::to_string(step_ + 1) +
                                     " is not finite; the adapter was left as it was before the step");
  }
  ++step_;
  return norm;
}

void Optimizer::save(const std::string& directory) const {
  make_directories(directory);
  int64_t counters[2] = {step_, pass_};
  const Tensor host_counters(counters, DType::i64, {2});
  const auto download = [&](const Tensor& piece, void* host) {
    if (piece.dtype() == DType::i64) {
      std::memcpy(host, piece.data(), piece.bytes());
    } else {
      ops_.download(piece, host);
    }
  };
  write_safetensors(
      directory + "/optimizer.safetensors",
      {{"param", adapter_.param()}, {"exp_avg", moment1()}, {"exp_avg_sq", moment2()}, {"counters", host_counters}},
      {{"format", "fire-train optimizer 1"}}, download);
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
  const Tensor v = checked("exp_avg_sq", DType::f32, size), counters = checked("counters", DType::i64, 2);
  const int64_t* count = static_cast<const int64_t*>(counters.data());
  if (count[0] < 0 || count[1] < 0 || count[1] > UINT32_MAX)
    throw Error(Code::checkpoint, file.origin() + ": \"counters\" are out of range").with("path", file.origin());
  file.reading([&] {
    ops_.upload(param.data(), adapter_.param());
    ops_.upload(m.data(), moment1());
    ops_.upload(v.data(), moment2());
  });
  zero_grad();
  step_ = count[0];
  pass_ = static_cast<uint32_t>(count[1]);
}

}  // namespace fire
