// What operations are told beside their tensors, and how some of those are laid out: ops.h, and in the same words the
// launchers of cuda/. Plain C++17: device sources include it too.
#pragma once

#include <cmath>
#include <cstdint>

namespace fire {

/// Inverted dropout on the input of a LoRA A matrix. The mask of element (row, column) is word column % 4 of the Philox
/// block keyed by `seed` and counted by (column / 4, first word of the row's key, module << 4 | stream, second word);
/// `rate` 0 switches it off.
struct Dropout {
  float rate = 0;
  uint64_t seed = 0;
  uint32_t module = 0;
  /// [rows, 2] in the device's memory. Rows with one key have one mask, wherever they lie; see model/row_keys.h.
  const uint32_t* row_keys = nullptr;
};

/// Words of 32 bits with a bit for each of so many columns.
constexpr int64_t mask_words(int64_t columns) { return (columns + 31) / 32; }

/// The vocabulary is summarised in slices of this many columns, each by itself: a row's numbers depend neither on how
/// many columns are in memory together nor on how many rows are.
constexpr int64_t vocabulary_slice = 8192;
inline int64_t vocabulary_slices(int64_t columns) { return (columns + vocabulary_slice - 1) / vocabulary_slice; }

/// What one pass over a slice of a row's policy logits z and reference logits zr leaves (f64, in this order), from
/// which log-sum-exp and both KLs follow (objective/row_summary.h). p and q are unnormalised: p_j = exp(z_j - max_p).
struct SliceStatistics {
  double max_p, sum_p;  // sum_p = sum_j p_j
  double cross_p;       // sum_j p_j (z_j - zr_j)
  double max_q, sum_q;  // the same for the reference
  double cross_q;       // sum_j q_j (zr_j - z_j)
};

/// What backward of the loss needs per gathered row (f32, in this order; derivation: docs/objectives.md).
///   dz[p] = sum_{targets k of p} coefficient_k * onehot(k) - mass * softmax(z[p])
///         + forward_kl * (softmax(z[p]) - softmax(zr[p]))
///         + reverse_kl * softmax(z[p]) * ((log softmax(z[p]) - log softmax(zr[p])) - reverse_value)
/// with mass = sum of the coefficients at p and reverse_value = KL(policy || ref) at p.
struct RowGradient {
  float lse, reference_lse, mass, forward_kl, reverse_kl, reverse_value;
};

/// How the next token is drawn. `temperature` 0 = greedy: the largest logit, the smallest id among equals.
struct SamplingRule {
  double temperature, top_p;
  int64_t top_k;  // 0 = all
};

struct AdamW {
  double lr, beta1, beta2, eps, weight_decay;
  int64_t step;          // 1 for the first update
  double max_grad_norm;  // gradients are scaled by min(1, max_grad_norm / (norm + 1e-6)); 0 = no clipping
};

/// What one element of an update needs; differences from 1 are taken in float64: 1 - 0.999f is off by 5e-5.
struct AdamWCoefficients {
  float decay, one_minus_beta1, beta2, one_minus_beta2, step_size, inv_sqrt_bias2, eps;

  explicit AdamWCoefficients(const AdamW& s)
      : decay(static_cast<float>(1 - s.lr * s.weight_decay)),
        one_minus_beta1(static_cast<float>(1 - s.beta1)),
        beta2(static_cast<float>(s.beta2)),
        one_minus_beta2(static_cast<float>(1 - s.beta2)),
        step_size(static_cast<float>(s.lr / (1 - std::pow(s.beta1, static_cast<double>(s.step))))),
        inv_sqrt_bias2(static_cast<float>(1 / std::sqrt(1 - std::pow(s.beta2, static_cast<double>(s.step))))),
        eps(static_cast<float>(s.eps)) {}
};

}  // namespace fire
