// Numbers that carry their derivatives, so that a loss is written once, as its value: forward-mode differentiation in
// float64 over the few numbers that the loss of a pair can depend on.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

namespace fire {

/// What a loss may depend on: policy log-probabilities of the four sequences, in the order of Branch, that of the whole
/// answer (v, y+), and the token KLs of (v, y+) and (v, y-). Nothing is differentiated by `reference`.
enum class Input : uint8_t {
  logp_chosen,
  logp_rejected,
  logp_corrupted_chosen,
  logp_corrupted_rejected,
  answer_logp,
  forward_kl,
  reverse_kl,
  rejected_forward_kl,
  reference,
  count
};
constexpr size_t differentiated_inputs = static_cast<size_t>(Input::reference);
constexpr uint32_t bit(Input input) { return 1u << static_cast<uint32_t>(input); }

/// A value, its derivatives, and which inputs it was made from: also those that it is not differentiated by.
struct Dual {
  double value = 0;
  std::array<double, differentiated_inputs> slope{};
  uint32_t reads = 0;

  Dual() = default;
  Dual(double constant) : value(constant) {}  // NOLINT: a constant is a number without derivatives
  Dual(double value, Input input) : value(value), reads(bit(input)) {
    if (input != Input::reference) slope[static_cast<size_t>(input)] = 1;
  }
};

/// f(x) from its value and derivative there. A derivative that is not finite spoils only what x depends on.
inline Dual chain(Dual x, double value, double derivative) {
  x.value = value;
  for (double& s : x.slope) s = s == 0 ? 0 : s * derivative;
  return x;
}

/// The value alone, as a constant.
inline Dual detached(Dual x) {
  x.slope.fill(0);
  return x;
}

inline Dual operator+(Dual a, const Dual& b) {
  a.value += b.value;
  for (size_t i = 0; i < a.slope.size(); ++i) a.slope[i] += b.slope[i];
  a.reads |= b.reads;
  return a;
}

inline Dual operator-(const Dual& a) { return chain(a, -a.value, -1); }
inline Dual operator-(const Dual& a, const Dual& b) { return a + -b; }

inline Dual operator*(const Dual& a, const Dual& b) {
  return chain(a, a.value * b.value, b.value) + chain(b, 0, a.value);
}

/// What has no weight is not read: it costs nothing, and it may be infinite.
inline Dual operator*(double factor, const Dual& x) {
  return factor == 0 ? Dual() : chain(x, factor * x.value, factor);
}

inline Dual operator/(Dual x, double divisor) {
  x.value /= divisor;
  for (double& s : x.slope) s /= divisor;
  return x;
}

inline double sigmoid(double u) { return u >= 0 ? 1 / (1 + std::exp(-u)) : std::exp(u) / (1 + std::exp(u)); }
inline Dual sigmoid(const Dual& u) { return chain(u, sigmoid(u.value), sigmoid(u.value) * sigmoid(-u.value)); }

/// -log sigmoid(u) without overflow.
inline double neg_log_sigmoid(double u) { return std::max(-u, 0.0) + std::log1p(std::exp(-std::abs(u))); }
inline Dual neg_log_sigmoid(const Dual& u) { return chain(u, neg_log_sigmoid(u.value), -sigmoid(-u.value)); }

inline Dual exp(const Dual& x) { return chain(x, std::exp(x.value), std::exp(x.value)); }
inline Dual square(const Dual& x) { return chain(x, x.value * x.value, 2 * x.value); }

/// The smaller of x and a bound; at and above the bound it is a constant.
inline Dual at_most(const Dual& x, double bound) { return x.value < bound ? x : chain(x, bound, 0); }

/// max(0, x); at the kink the slope is 0.
inline Dual positive_part(const Dual& x) { return x.value > 0 ? x : chain(x, 0, 0); }

}  // namespace fire
