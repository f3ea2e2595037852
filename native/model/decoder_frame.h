// What every layer of one decoder pass shares; private to decoder.cpp and decoder_backward.cpp.
#pragma once

#include "model/decoder.h"

namespace fire {

struct Decoder::Frame {
  const DecoderInput& input;
  const DecoderPass& pass;
  DecoderActivations& kept;
  bool keeps;       // activations are kept: a training pass
  Tensor gradient;  // backward only: receives dL/dparameter

  bool all_rows() const { return last_rows() == input.tokens(); }
  /// True in the last layer when not all rows are read: queries, MLP and output exist for the read rows only.
  bool compact(int64_t layer) const { return !all_rows() && layer + 1 == static_cast<int64_t>(kept.x.size()) - 1; }
  /// Whether a linear takes the read rows alone: in a compact layer all but k and v.
  bool reads(int64_t layer, Proj proj) const { return compact(layer) && proj != Proj::k && proj != Proj::v; }
  bool drops() const { return keeps && pass.adapter && pass.adapter->spec().dropout > 0; }
  /// Whether what this pass makes of a layer is there for its backward.
  bool keeps_layers() const { return keeps && (!kept.checkpointing || gradient); }
  int64_t last_rows() const { return static_cast<int64_t>(input.read_rows.size()); }
  int64_t rows(int64_t layer) const { return compact(layer) ? last_rows() : input.tokens(); }
  const PreparedPlan& plan(int64_t layer) const { return compact(layer) ? kept.read_plan : kept.plan; }
  /// nullptr when this pass does not adapt the linear.
  const LoraModule* module(int64_t layer, Proj proj) const {
    return pass.adapter ? pass.adapter->find(layer, proj) : nullptr;
  }
};

}  // namespace fire
