// The benchmark of the GPU's operations: what a case is, and where its buffers come from.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cuda/cuda_ops.h"
#include "tensor/json.h"

namespace fire::bench {

/// One model of shapes.json with the lengths of its batch.
struct Shapes {
  std::string model;
  int64_t pairs, images, text, common, tail, phrase, decode, rank;
  int64_t hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, image_tokens;
  bool head_norms;
  int64_t vision_hidden, vision_heads, vision_intermediate, vision_tokens;

  /// Rows of one image: what both answers share, then the two tails.
  int64_t prefix() const { return image_tokens + text + common; }
  int64_t tokens() const { return images * (prefix() + 2 * tail); }
  /// Rows that predict a phrase token: the first one is the last row of the prefix and serves both answers.
  int64_t read_rows() const { return images * (2 * phrase - 1); }
  int64_t targets() const { return images * 2 * phrase; }
  int64_t q_width() const { return heads * head_dim; }
  int64_t adapter_parameters() const;
  /// The attention of the packed batch: a prefix and two tails for every image (native/objective/packing.cpp).
  AttentionPlan packed_plan() const;
};

std::vector<Shapes> read_shapes(const Json& file);

/// The least that an operation can do: every input read once, every output written once; only matrix products and
/// attention are counted as arithmetic.
struct Cost {
  double bytes = 0, flops = 0;
};

/// Device memory of one case, filled with random numbers.
class Buffers {
 public:
  Buffers(cuda::CudaOps& ops, size_t random_bytes);

  /// Uniform in [-1, 1), in the activation type or in f32.
  Tensor activation(std::initializer_list<int64_t> dims) { return filled(arena_.take(ops.activation_type(), dims)); }
  Tensor f32(std::initializer_list<int64_t> dims) { return filled(arena_.take(DType::f32, dims)); }
  Tensor zeros(DType type, std::initializer_list<int64_t> dims);
  Tensor i32(std::span<const int32_t> values) { return ops.upload_i32(arena_, values); }
  PreparedPlan plan(const AttentionPlan& plan) { return ops.prepare(plan, arena_); }
  size_t bytes() const { return arena_.peak_bytes(); }
  void clear();

  cuda::CudaOps& ops;

 private:
  Tensor filled(Tensor x);

  Arena random_, arena_;
  std::map<DType, Tensor> pools_;
};

using Call = std::function<void()>;

struct Case {
  std::string kernel, shape;
  Cost cost;
  /// Takes one set of buffers; the result runs the operation on it, any number of times.
  std::function<Call(Buffers&)> prepare;
};

/// Every operation that matters in a step, in decoding and in the vision tower, at these shapes. `activation` is the
/// width of the activation type in bytes.
std::vector<Case> cases(const Shapes& shapes, double activation);
/// One large copy, and one large matrix product.
Case copy_ceiling(int64_t bytes);
Case gemm_ceiling(int64_t side, double activation);

/// Joins what was measured with the facts of the run: writes results.json and prints the table. Returns the number of
/// kernels that failed.
int report(const std::string& facts, const std::string& kernels, const std::string& peers, const std::string& out);

}  // namespace fire::bench
