// Forward-only readings of sequences: token log-probabilities and attention towards the image. Both are of the model
// with `adapter`; nullptr = the reference.
#pragma once

#include <vector>

#include "model/sequence_tree.h"

namespace fire {

/// log p(ids[i+1] | ids[0..i]) for i in [0, n-1), one list a sequence; NaN for an image placeholder that is no token of
/// the vocabulary. What sequences begin with alike is computed once; their numbers are the same bits as alone.
std::vector<std::vector<float>> token_logprobs(const Context& context, const Adapter* adapter,
                                               std::span<const Sequence> sequences);

/// Softmax attention of each query position towards the image tokens of the sequence, per layer and head, not
/// renormalised: [layers, heads, image tokens] per position.
std::vector<std::vector<float>> image_attention(const Context& context, const Adapter* adapter,
                                                const Sequence& sequence, const std::vector<int32_t>& positions);

}  // namespace fire
