// The benchmark of the GPU's operations: the cases of test/ops at the shapes of models, and where their buffers
// come from.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cuda/cuda_ops.h"
#include "ops/case.h"
#include "tensor/json.h"

namespace fire::bench {

/// One model of shapes.json with the lengths of its batch.
struct Shapes {
  std::string model;
  int64_t pairs, images, text, common, tail, phrase, decode, rank;
  int64_t hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, image_tokens;
  bool head_norms;
  int64_t vision_hidden, vision_heads, vision_intermediate, vision_tokens, vision_blocks, vision_mergers;

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

/// Device memory of cases, filled with random numbers.
class Buffers {
 public:
  Buffers(cuda::CudaOps& ops, size_t random_bytes);

  /// A case's tensors. What it completes, and what it expects, a timing does not need.
  test::Tensors tensors(const test::Case& c);
  size_t bytes() const { return arena_.peak_bytes(); }
  void clear();

  cuda::CudaOps& ops;

 private:
  Tensor take(const test::Argument& argument);

  Arena random_, arena_;
  std::map<DType, Tensor> pools_;
};

/// A case of test/ops at a model's shapes.
struct Case {
  std::string kernel, shape;
  Cost cost;
  test::Case call;
};

/// Every operation that matters in a step, in decoding and in the vision tower, at these shapes.
std::vector<Case> cases_of(const Shapes& shapes, DType activation);
/// One large copy, and one large matrix product.
Case copy_ceiling(int64_t bytes);
Case gemm_ceiling(int64_t side, DType activation);

/// Files of a run so far: lines of `key=text`, and JSON lines of this program, of peers.py and of fire_step_bench.
struct Report {
  std::string facts, kernels, peers, steps;
};
/// Joins them: writes results.json and prints the table. Returns the number of kernels that failed.
int report(const Report& files, const std::string& out);

}  // namespace fire::bench
