#include <algorithm>
#include <random>

#include "bench.h"

namespace fire::bench {

std::vector<Shapes> read_shapes(const Json& file) {
  std::vector<Shapes> found;
  const Json& batch = file.at("batch");
  for (const auto& [name, model] : file.at("models").object()) {
    const Json& vision = model.at("vision");
    const auto of = [](const Json& from) { return [&from](const char* key) { return from.at(key).integer(); }; };
    const auto b = of(batch), m = of(model), v = of(vision);
    found.push_back({name,          b("pairs"),        b("images"),
                     b("text"),     b("common"),       b("tail"),
                     b("phrase"),   b("decode"),       file.at("rank").integer(),
                     m("hidden"),   m("layers"),       m("heads"),
                     m("kv_heads"), m("head_dim"),     m("intermediate"),
                     m("vocab"),    m("image_tokens"), model.at("head_norms").boolean(),
                     v("hidden"),   v("heads"),        v("intermediate"),
                     v("tokens"),   v("blocks"),       v("mergers")});
  }
  return found;
}

int64_t Shapes::adapter_parameters() const {
  const int64_t kv = kv_heads * head_dim;
  const int64_t widths = 2 * (hidden + q_width()) + 2 * (hidden + kv) + 3 * (hidden + intermediate);
  return layers * rank * widths;
}

AttentionPlan Shapes::packed_plan() const {
  AttentionPlan plan;
  const auto narrow = [](int64_t row) { return static_cast<int32_t>(row); };
  for (int64_t image = 0; image < images; ++image) {
    const int32_t group = plan.groups++;
    const int64_t begin = image * (prefix() + 2 * tail), end = begin + prefix();
    plan.spans.push_back({narrow(begin), narrow(end), 0, 0, narrow(begin), narrow(end), true, group});
    const KeyRange prefix_rows{narrow(begin), narrow(end)}, context = plan.add_context({&prefix_rows, 1});
    for (int64_t own = end; own < end + 2 * tail; own += tail)
      plan.spans.push_back(
          {narrow(own), narrow(own + tail), context.begin, context.end, narrow(own), narrow(own + tail), true, group});
  }
  for (int64_t row = 0; row < tokens(); ++row) plan.key_row.push_back(narrow(row));
  return plan;
}

Buffers::Buffers(cuda::CudaOps& ops_, size_t random_bytes)
    : ops(ops_), random_(ops_.arena_source(), random_bytes), arena_(ops_.arena_source(), size_t{1} << 20) {
  std::mt19937 engine(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(random_bytes / sizeof(float));
  for (float& x : values) x = uniform(engine);
  const int64_t count = static_cast<int64_t>(values.size());
  pools_[DType::f32] = ops.upload_f32(random_, values, {count});
  if (ops.activation_type() == DType::bf16) pools_[DType::bf16] = ops.upload_activation(random_, values, {count});
}

Tensor Buffers::take(const test::Argument& argument) {
  const Tensor x =
      Tensor::with_dims(arena_.take(argument.type, {argument.size()}).data(), argument.type, argument.dims);
  if (argument.type == DType::i32 && argument.read()) {
    const std::vector<int32_t> values(argument.values.begin(), argument.values.end());
    ops.upload(values.data(), x);
    return x;
  }
  ops.zero(x);
  if (!pools_.contains(x.dtype()) || argument.low == 0) return x;  // a second moment, which cannot be negative
  const Tensor pool = pools_.at(x.dtype()), flat = x.reshape({x.size()});
  for (int64_t begin = 0; begin < flat.size(); begin += pool.size()) {
    const Tensor part = flat.slice(begin, std::min(begin + pool.size(), flat.size()));
    ops.copy(pool.slice(0, part.size()), part);
  }
  return x;
}

test::Tensors Buffers::tensors(const test::Case& c) {
  test::Tensors tensors;
  for (const test::Argument& argument : c.arguments) tensors.by_name[argument.name] = take(argument);
  if (c.plan) tensors.plan = ops.prepare(*c.plan, arena_);
  return tensors;
}

void Buffers::clear() {
  cuda::synchronize(ops.stream());
  arena_.clear();
  arena_.reset_peak();
}

}  // namespace fire::bench
