// Forward-only readings of one sequence: token log-probabilities and attention towards the image. Both are of the model
// with `adapter`; nullptr = the reference.
#pragma once

#include <vector>

#include "objective/packing.h"

namespace fire {

struct SequenceToScore {
  std::vector<int32_t> ids;
  std::vector<const ImageFeatures*> images;
};

/// log p(ids[i+1] | ids[0..i]) for i in [0, n-1); NaN for an image placeholder that is no token of the vocabulary.
std::vector<float> token_logprobs(const Context& context, const Adapter* adapter, const SequenceToScore& sequence);

/// Softmax attention of each query position towards the image tokens of the sequence, per layer and head, not
/// renormalised: [layers, heads, image tokens] per position.
std::vector<std::vector<float>> image_attention(const Context& context, const Adapter* adapter,
                                                const SequenceToScore& sequence, const std::vector<int32_t>& positions);

}  // namespace fire
