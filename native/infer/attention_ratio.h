// How much more a question draws attention to the truth region of an image than a neutral prompt does: the Attention
// Ratio of VGMED (arXiv 2603.14323) with the two divergences reported beside it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace fire {

struct AttentionRatio {
  double ratio, kl, js;
};

/// One layer. `question` and `general` are [heads, tokens] softmax weights towards the image tokens; relative attention
/// is the quotient of their head means, `truth` the flat indices of the image tokens inside the region. KL and JS
/// compare the uniform distribution over the region with normalised relative attention, natural logarithms.
AttentionRatio attention_ratio(std::span<const float> question, std::span<const float> general, size_t tokens,
                               std::span<const int64_t> truth);

}  // namespace fire
