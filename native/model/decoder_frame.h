// What every layer of one decoder pass shares; private to decoder.cpp and decoder_backward.cpp.
#pragma once

#include <cmath>

#include "model/decoder.h"

namespace fire {

struct Decoder::Frame {
  const DecoderInput& input;
  const DecoderPass& pass;
  DecoderActivations& kept;
  Arena& arena;
  bool keeps;     // activations are kept: a training pass
  bool all_rows;  // every packed row is read

  /// True in the last layer when not all rows are read: queries, MLP and output exist for the read rows only.
  bool compact(int64_t layer) const { return !all_rows && layer + 1 == static_cast<int64_t>(kept.x.size()) - 1; }
  int64_t last_rows() const { return all_rows ? input.tokens() : static_cast<int64_t>(input.read_rows.size()); }
  int64_t rows(int64_t layer) const { return compact(layer) ? last_rows() : input.tokens(); }
  const PreparedPlan& plan(int64_t layer) const { return compact(layer) ? kept.read_plan : kept.plan; }
  float scale(const TextConfig& config) const { return 1.0f / std::sqrt(static_cast<float>(config.head_dim)); }

  /// The rows of x that this layer's queries and MLP work on, x itself where that is all.
  Tensor read(Ops& ops, int64_t layer, Tensor x) const {
    if (!compact(layer)) return x;
    Tensor some = arena.take(x.dtype(), {last_rows(), x.cols()});
    ops.gather_rows(x, kept.read_rows, some);
    return some;
  }
  /// The rotary table of those rows.
  RotaryTable rotary(Ops& ops, int64_t layer) const {
    return {read(ops, layer, kept.rotary.cos), read(ops, layer, kept.rotary.sin)};
  }
};

}  // namespace fire
