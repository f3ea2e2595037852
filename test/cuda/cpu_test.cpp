// A GPU gives what a CPU gives, to rounding, where both could be right and yet differ: in dropout masks, in places of a
// table, in sums over a vocabulary.
#include "device.h"
#include "ops/cases/cases.h"

namespace fire::test {
namespace {

const Target plain{DType::f32, DType::f32, DType::f32, DType::f32, true, false};

/// |gpu - cpu| <= tolerance * max(1, |cpu|) for every element of these outputs; 0 asks for the same bits.
void check_alike(const Case& c, std::initializer_list<const char*> outputs, double tolerance, DType type = DType::f32) {
  const Values in = inputs_of(c), gpu = run(device(type), c, in), cpu = run(host(), c, in);
  for (const char* name : outputs) {
    const Doubles &a = gpu.at(name), &b = cpu.at(name);
    double worst = a.size() == b.size() ? 0 : INFINITY;
    for (size_t i = 0; i < b.size() && i < a.size(); ++i) {
      const double e = std::abs(a[i] - b[i]) / std::max(1.0, std::abs(b[i]));
      worst = std::isnan(e) ? INFINITY : std::max(worst, e);
    }
    CHECK_NEAR(worst, 0, tolerance);
  }
}

TEST("like the CPU: lora_linear and its backward under dropout") {
  const Dropout dropout{0.3f, 7, 5};
  // Sums of up to 51 terms in f32.
  check_alike(cases::lora_linear(plain, {37, 45, 51}, 6, dropout, true, true, DType::f32), {"h", "y"}, 1e-5);
  check_alike(cases::lora_linear_backward(plain, {37, 45, 51}, 6, dropout, cases::Dx::accumulated, DType::f32),
              {"dh", "da", "db", "dx"}, 1e-5);
}

TEST("like the CPU: dropout masks, element by element") {
  // With A = identity, h is the dropped input itself.
  Case c = cases::lora_linear(plain, {50, 8, 24}, 24, {0.4f, 7, 5}, false, false, DType::f32);
  c.complete = [](Values& in) {
    for (size_t i = 0; i < in["a"].size(); ++i) in["a"][i] = i / 24 == i % 24;
  };
  check_alike(c, {"h"}, 0);
  const Doubles h = run(device(DType::f32), c).at("h");
  const auto zeros = std::count(h.begin(), h.end(), 0.0);
  CHECK(zeros > 50 * 24 / 4 && zeros < 50 * 24 * 3 / 5);
}

TEST("like the CPU: rotary tables and resampled positions") {
  for (const int64_t half : {1, 8, 10, 64, 300}) check_alike(cases::rotary_table(37, half), {"cos", "sin"}, 1.2e-7);
  for (const cases::Grid& g : {cases::Grid{4, 6, 4, 2, 16}, {7, 9, 6, 3, 40}, {2, 4, 2, 2, 2100}})
    check_alike(cases::interpolate_positions(plain, g), {"y"}, 5e-7);
}

TEST("like the CPU: preference statistics and gradients") {
  for (const auto& [rows, vocab] : cases::logit_shapes(false)) {
    std::vector<int32_t> targets;
    for (int32_t row = 0; row < rows; ++row) targets.insert(targets.end(), {row, static_cast<int32_t>(vocab / 2)});
    const Case c = cases::preference_statistics(rows, vocab, 1, targets);
    check_alike(c, {"target_logits"}, 0);
    const Values in = inputs_of(c), gpu = run(device(DType::f32), c, in), cpu = run(host(), c, in);
    const auto summaries = [rows = rows](const Doubles& raw) {
      std::vector<SliceStatistics> slices(raw.size() / 6);
      std::memcpy(slices.data(), raw.data(), raw.size() * sizeof(double));
      const size_t each = slices.size() / static_cast<size_t>(rows);
      std::vector<RowSummary> all;
      for (size_t r = 0; r < static_cast<size_t>(rows); ++r)
        all.push_back(summarize_row(std::span(slices).subspan(r * each, each), true));
      return all;
    };
    const std::vector<RowSummary> a = summaries(gpu.at("statistics")), b = summaries(cpu.at("statistics"));
    for (size_t r = 0; r < a.size(); ++r) {
      CHECK_NEAR(a[r].lse, b[r].lse, 15 * u);
      CHECK_NEAR(a[r].forward_kl, b[r].forward_kl, 1e-6);
      CHECK_NEAR(a[r].reverse_kl, b[r].reverse_kl, 1e-6);
    }
    check_alike(cases::preference_backward(rows, vocab, targets), {"z"}, 1e-6);
  }
}

TEST("like the CPU: adamw, and the norm it returns") {
  for (const int64_t step : {1, 5}) {
    const Case c = cases::adamw({1e-3, 0.9, 0.999, 1e-8, 0.01, step, 1.0}, 5003, false);
    check_alike(c, {"returned"}, 1e-13);
    check_alike(c, {"param"}, 4 * u);
  }
}

}  // namespace
}  // namespace fire::test
