#include "objective/preference_step.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace fire {
namespace {

/// Columns [begin, end) of the vocabulary whose logits are in memory together.
struct Columns {
  int64_t begin, end;
  int64_t count() const { return end - begin; }
};

/// Logits [P, C] of some columns, policy and reference; the reference is empty where the objective has none.
struct Logits {
  Tensor policy, reference;
};

class PreferenceStep {
 public:
  PreferenceStep(const Context& context, std::span<const Pair> pairs, const Objective& objective,
                 const PackedBatch& batch, const StepSettings& settings)
      : ops_(context.ops),
        decoder_(context),
        arena_(context.arena),
        vocab_size_(context.config.text.vocab_size),
        pairs_(pairs),
        objective_(objective),
        batch_(batch),
        settings_(settings),
        loss_(pairs, objective, batch, settings.normalizer, settings.chosen_tokens) {}

  StepStats run(const Adapter* adapter, Tensor gradient) {
    Arena::Scope scope(arena_);
    StepStats stats;
    stats.tokens = batch_.input.tokens();
    stats.rows = static_cast<int64_t>(batch_.input.read_rows.size());
    if (stats.rows == 0) {
      stats.pairs = finite_losses();
      return stats;
    }

    if (objective_.needs_reference())
      reference_ = settings_.reference
                       ? settings_.reference
                       : decoder_.forward(batch_.input, {.adapter = settings_.reference_adapter}, nullptr);
    DecoderPass pass;
    pass.adapter = adapter;
    pass.dropout_step = settings_.dropout_step;
    DecoderActivations kept;
    kept.checkpointing = settings_.checkpointing;
    policy_ = decoder_.forward(batch_.input, pass, gradient ? &kept : nullptr);

    const std::vector<Columns> chunks = cut_vocabulary();
    const Logits logits = allocate_logits(chunks[0].count());
    read_statistics(chunks, logits);
    stats.pairs = finite_losses();
    if (settings_.on_losses) settings_.on_losses();
    if (gradient) {
      const Tensor dhidden = loss_backward(chunks, logits, stats);
      try {
        decoder_.backward(batch_.input, pass, kept, dhidden, gradient, settings_.layer_done);
      } catch (const std::exception& e) {
        if (settings_.on_failure) settings_.on_failure(e.what());
        try {
          ops_.zero(gradient);  // half a gradient is worse than none
        } catch (...) {
          // A device that failed fails again; the first error says why.
        }
        throw;
      }
    }
    return stats;
  }

 private:
  /// The whole vocabulary when its logits fit the budget, else as many slices at a time as do: the head then runs
  /// twice, and [P, V] never exists.
  std::vector<Columns> cut_vocabulary() const {
    const int64_t copies = objective_.needs_reference() ? 2 : 1;
    const int64_t column_bytes = policy_.rows() * copies * static_cast<int64_t>(sizeof(float));
    const int64_t fit = static_cast<int64_t>(settings_.logits_budget) / column_bytes;
    const int64_t width =
        fit >= vocab_size_ ? vocab_size_ : std::max(fit / vocabulary_slice, int64_t{1}) * vocabulary_slice;
    std::vector<Columns> chunks;
    for (int64_t b = 0; b < vocab_size_; b += width) chunks.push_back({b, std::min(b + width, vocab_size_)});
    return chunks;
  }

  Logits allocate_logits(int64_t columns) {
    Logits logits{arena_.f32({policy_.rows(), columns}), {}};
    if (objective_.needs_reference()) logits.reference = arena_.f32({policy_.rows(), columns});
    return logits;
  }

  /// The logits of these columns, in the memory of `memory`.
  Logits head(const Columns& columns, const Logits& memory) const {
    const auto run = [&](Tensor hidden, Tensor into) {
      const Tensor z(into.data(), DType::f32, {hidden.rows(), columns.count()});
      decoder_.head(hidden, columns.begin, z);
      return z;
    };
    return {run(policy_, memory.policy), reference_ ? run(reference_, memory.reference) : Tensor()};
  }

  /// Phase 1, one pass over the logits: log-probabilities of the targets under policy and reference, both token KLs.
  void read_statistics(const std::vector<Columns>& chunks, const Logits& memory) {
    const int64_t rows = policy_.rows(), slices = vocabulary_slices(vocab_size_);
    const int64_t count = static_cast<int64_t>(batch_.terms.size());
    std::vector<int32_t> flat;
    for (const Term& t : batch_.terms) flat.insert(flat.end(), {t.at.row, t.at.target});
    targets_ = ops_.upload_i32(arena_, flat).reshape({count, 2});
    Arena::Scope scope(arena_);
    // One tensor, so that the host waits once: the statistics, and the logits of the targets, two f32 for each.
    const int64_t numbers = rows * slices * 6;
    const Tensor read = arena_.take(DType::f64, {numbers + count});
    const Tensor statistics = read.slice(0, numbers).reshape({rows, slices, 6});
    const Tensor target_logits(read.slice(numbers, numbers + count).data(), DType::f32, {2, count});
    for (const Columns& columns : chunks) {
      const Logits z = head(columns, memory);
      ops_.preference_statistics(z.policy, z.reference, columns.begin, targets_, statistics, target_logits);
    }
    // The one place in a step where the host waits: the loss is float64 arithmetic on a few numbers a pair, and a loss
    // that is not finite must name its pairs before it touches a gradient.
    std::vector<std::byte> bytes(read.bytes());
    ops_.download(read, bytes.data());
    std::vector<SliceStatistics> host(static_cast<size_t>(rows * slices));
    std::vector<float> values(static_cast<size_t>(2 * count));
    std::memcpy(host.data(), bytes.data(), statistics.bytes());
    std::memcpy(values.data(), bytes.data() + statistics.bytes(), target_logits.bytes());
    for (int64_t r = 0; r < rows; ++r)
      readings_.rows.push_back(
          summarize_row(std::span(host).subspan(static_cast<size_t>(r * slices), static_cast<size_t>(slices)),
                        static_cast<bool>(reference_)));
    for (size_t i = 0; i < batch_.terms.size(); ++i) {
      const RowSummary& row = readings_.rows[static_cast<size_t>(batch_.terms[i].at.row)];
      readings_.policy.push_back(static_cast<double>(values[i]) - row.lse);
      readings_.reference.push_back(
          reference_ ? static_cast<double>(values[batch_.terms.size() + i]) - row.reference_lse : 0.0);
    }
  }

  std::vector<PairStats> finite_losses() const {
    std::vector<PairStats> losses = loss_.losses(readings_);
    std::string bad;
    for (size_t p = 0; p < pairs_.size(); ++p)
      if (!std::isfinite(losses[p].loss.loss)) bad += (bad.empty() ? "\"" : ", \"") + pairs_[p].id + "\"";
    if (!bad.empty() && !ops_.dry())
      throw Error(Code::nonfinite, "the loss is not a finite number for pair(s) " + bad).with("records", bad);
    return losses;
  }

  /// Phase 2: dL/dlogits in place of the logits, and through the head to the gathered hidden rows.
  Tensor loss_backward(const std::vector<Columns>& chunks, const Logits& memory, const StepStats& stats) {
    Tensor dhidden = arena_.f32({policy_.rows(), policy_.cols()});
    Arena::Scope scope(arena_);
    const std::vector<float> coefficients = loss_.coefficients(stats.pairs);
    const std::vector<RowGradient> gradients = loss_.row_gradients(readings_, stats.pairs);
    const Tensor rows = arena_.f32({policy_.rows(), 6});
    ops_.upload(gradients.data(), rows);
    const Tensor weights = ops_.upload_f32(arena_, coefficients, {static_cast<int64_t>(coefficients.size())});
    for (const Columns& columns : chunks) {
      // With one chunk its logits are still in memory.
      const Logits z = chunks.size() == 1 ? memory : head(columns, memory);
      ops_.preference_backward(z.policy, z.reference, columns.begin, rows, targets_, weights);
      decoder_.head_backward(z.policy, columns.begin, dhidden, columns.begin > 0);
    }
    return dhidden;
  }

  Ops& ops_;
  const Decoder decoder_;
  Arena& arena_;
  const int64_t vocab_size_;
  const std::span<const Pair> pairs_;
  const Objective& objective_;
  const PackedBatch& batch_;
  const StepSettings& settings_;
  Tensor reference_, policy_;  // hidden rows [P, H]
  Tensor targets_;             // [K, 2] (row, token) of every term
  const StepLoss loss_;
  RowReadings readings_;
};

}  // namespace

StepStats run_preference_step(const Context& context, const Adapter* adapter, std::span<const Pair> pairs,
                              const Objective& objective, const PackedBatch& batch, const StepSettings& settings,
                              Tensor gradient) {
  return PreferenceStep(context, pairs, objective, batch, settings).run(adapter, gradient);
}

}  // namespace fire
