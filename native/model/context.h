// What every computation over a model is given.
#pragma once

#include "model/weights.h"
#include "tensor/cancel.h"

namespace fire {

/// One computation: the device it runs on, the model, the memory for all that lies between input and result, and
/// whether to stop. Forward, backward, scoring, generation and the preference step take this and nothing else of the
/// engine. A dry run (ops/null_ops.h) is the same with other `ops` and another `arena`.
struct Context {
  Ops& ops;
  const ModelConfig& config;
  const Weights& weights;
  Arena& arena;
  Cancel cancel;
};

}  // namespace fire
