#include "objective/preference_step.h"

#include <algorithm>
#include <cmath>

namespace fire {
namespace {

/// Gathered rows [begin, end) whose logits are in memory together, and what belongs to them.
struct Chunk {
  int64_t begin, end;
  std::vector<size_t> terms, kl_rows;  // indices into the batch
};

/// Policy logits of a chunk and reference logits of its KL rows; lse of both.
struct ChunkLogits {
  Tensor z, lse;
  Tensor zr, lse_r;
};

class PreferenceStep {
 public:
  PreferenceStep(Ops& ops, const Decoder& decoder, const PackedBatch& batch, const Objective& objective,
                 const StepSettings& settings, int64_t vocab_size, Arena& arena)
      : ops_(ops),
        decoder_(decoder),
        batch_(batch),
        objective_(objective),
        settings_(settings),
        vocab_size_(vocab_size),
        arena_(arena),
        kl_forward_(batch.kl_rows.size()),
        kl_reverse_(batch.kl_rows.size()),
        policy_logps_(batch.terms.size()),
        reference_logps_(batch.terms.size()) {
    make_chunks();
  }

  StepStats run(std::span<const Pair> pairs, const Adapter* policy, Adapter* gradients) {
    Arena::Scope scope(arena_);
    StepStats stats;
    stats.tokens = batch_.input.tokens();
    stats.rows = static_cast<int64_t>(batch_.input.read_rows.size());
    stats.pairs.resize(pairs.size());
    if (stats.rows == 0) {
      finish_pairs(pairs, stats);
      return stats;
    }

    DecoderPass pass;
    pass.cancel = settings_.cancel;
    if (objective_.needs_reference())
      reference_ = settings_.reference ? settings_.reference : decoder_.forward(batch_.input, pass, arena_, nullptr);
    pass.adapter = policy;
    pass.dropout_pass = settings_.dropout_pass;
    DecoderActivations kept;
    kept.checkpointing = settings_.checkpointing;
    policy_ = decoder_.forward(batch_.input, pass, arena_, gradients ? &kept : nullptr);

    if (chunks_.size() == 1) {
      const ChunkLogits logits = read_chunk(chunks_[0]);
      finish_pairs(pairs, stats);
      if (gradients) backward(pass, kept, *gradients, stats, &logits);
    } else {
      for (const Chunk& chunk : chunks_) {
        Arena::Scope inner(arena_);
        read_chunk(chunk);
      }
      finish_pairs(pairs, stats);
      if (gradients) backward(pass, kept, *gradients, stats, nullptr);
    }
    return stats;
  }

 private:
  void make_chunks() {
    const int64_t rows = static_cast<int64_t>(batch_.input.read_rows.size());
    const int64_t row_bytes = vocab_size_ * static_cast<int64_t>(sizeof(float)) * 2;
    const int64_t per_chunk =
        std::max<int64_t>(1, static_cast<int64_t>(settings_.logits_budget) / std::max<int64_t>(1, row_bytes));
    for (int64_t b = 0; b < rows; b += per_chunk) chunks_.push_back({b, std::min(rows, b + per_chunk), {}, {}});
    for (size_t i = 0; i < batch_.terms.size(); ++i)
      chunks_[static_cast<size_t>(batch_.terms[i].at.row / per_chunk)].terms.push_back(i);
    for (size_t i = 0; i < batch_.kl_rows.size(); ++i)
      chunks_[static_cast<size_t>(batch_.kl_rows[i].row / per_chunk)].kl_rows.push_back(i);
  }

  std::vector<RowTarget> targets_of(const Chunk& chunk) const {
    std::vector<RowTarget> targets;
    for (const size_t i : chunk.terms) {
      const RowTarget& t = batch_.terms[i].at;
      targets.push_back({static_cast<int32_t>(t.row - chunk.begin), t.target});
    }
    return targets;
  }

  std::vector<int32_t> kl_rows_of(const Chunk& chunk) const {
    std::vector<int32_t> rows;
    for (const size_t i : chunk.kl_rows) rows.push_back(static_cast<int32_t>(batch_.kl_rows[i].row - chunk.begin));
    return rows;
  }

  /// Phase 1: logits, log-probabilities of the targets under policy and reference, token KL.
  ChunkLogits read_chunk(const Chunk& chunk) {
    const int64_t rows = chunk.end - chunk.begin;
    const std::vector<RowTarget> targets = targets_of(chunk);
    ChunkLogits logits;
    logits.z = arena_.f32({rows, vocab_size_});
    logits.lse = arena_.f32({rows});
    decoder_.head(policy_.slice(chunk.begin, chunk.end), logits.z);
    ops_.log_sum_exp(logits.z, logits.lse);
    store(policy_logps_, chunk, ops_.target_logprobs(logits.z, logits.lse, targets));
    if (!objective_.needs_reference()) return logits;

    const std::vector<int32_t> kl_rows = kl_rows_of(chunk);
    logits.zr = arena_.f32({static_cast<int64_t>(kl_rows.size()), vocab_size_});
    logits.lse_r = arena_.f32({static_cast<int64_t>(kl_rows.size())});
    Arena::Scope scope(arena_);
    Tensor zr = arena_.f32({rows, vocab_size_}), lse_r = arena_.f32({rows});
    decoder_.head(reference_.slice(chunk.begin, chunk.end), zr);
    ops_.log_sum_exp(zr, lse_r);
    store(reference_logps_, chunk, ops_.target_logprobs(zr, lse_r, targets));
    if (kl_rows.empty()) return logits;

    const Tensor at = ops_.upload_i32(arena_, kl_rows);
    ops_.gather_rows(zr, at, logits.zr);
    ops_.gather_rows(lse_r.reshape({rows, 1}), at, logits.lse_r.reshape({logits.lse_r.size(), 1}));
    std::vector<double> forward, reverse;
    ops_.token_kl(logits.z, logits.lse, logits.zr, logits.lse_r, kl_rows, forward, reverse);
    for (size_t i = 0; i < chunk.kl_rows.size(); ++i) {
      kl_forward_[chunk.kl_rows[i]] = forward[i];
      kl_reverse_[chunk.kl_rows[i]] = reverse[i];
    }
    return logits;
  }

  void store(std::vector<double>& all, const Chunk& chunk, const std::vector<double>& some) const {
    for (size_t i = 0; i < some.size(); ++i) all[chunk.terms[i]] = some[i];
  }

  double kl_divisor(size_t pair) const {
    return objective_.kl_mean ? static_cast<double>(std::max<int64_t>(1, kl_count_[pair])) : 1.0;
  }

  void finish_pairs(std::span<const Pair> pairs, StepStats& stats) {
    kl_count_.assign(pairs.size(), 0);
    for (const KlRow& r : batch_.kl_rows) ++kl_count_[static_cast<size_t>(r.pair)];
    for (size_t i = 0; i < batch_.terms.size(); ++i) {
      const Term& t = batch_.terms[i];
      PairLogps& logps = stats.pairs[static_cast<size_t>(t.pair)].logps;
      logps.policy[at(t.branch)] += policy_logps_[i];
      logps.reference[at(t.branch)] += reference_logps_[i];
    }
    for (size_t i = 0; i < batch_.kl_rows.size(); ++i) {
      const size_t p = static_cast<size_t>(batch_.kl_rows[i].pair);
      stats.pairs[p].kl.forward += kl_forward_[i] / kl_divisor(p);
      stats.pairs[p].kl.reverse += kl_reverse_[i] / kl_divisor(p);
    }
    std::string bad;
    for (size_t p = 0; p < pairs.size(); ++p) {
      PairStats& s = stats.pairs[p];
      s.chosen_tokens = batch_.chosen_tokens[p];
      s.rejected_tokens = batch_.rejected_tokens[p];
      s.loss = evaluate_pair(objective_, s.logps, s.kl, pairs[p].has_corrupted(), s.chosen_tokens);
      if (!std::isfinite(s.loss.loss)) bad += (bad.empty() ? "\"" : ", \"") + pairs[p].id + "\"";
    }
    if (!bad.empty() && !ops_.dry())
      throw Error(Code::nonfinite, "the loss is not a finite number for pair(s) " + bad).with("records", bad);
  }

  /// Phase 2: dlogits in place of the logits, through the head to the gathered hidden rows, and down the decoder.
  void backward(const DecoderPass& pass, DecoderActivations& kept, Adapter& gradients, const StepStats& stats,
                const ChunkLogits* in_memory) {
    Tensor dhidden = arena_.f32({policy_.rows(), policy_.cols()});
    for (const Chunk& chunk : chunks_) {
      Arena::Scope scope(arena_);
      const ChunkLogits logits = in_memory ? *in_memory : read_chunk(chunk);
      const std::vector<RowTarget> targets = targets_of(chunk);
      const std::vector<int32_t> kl_rows = kl_rows_of(chunk);
      std::vector<float> coefficients;
      std::vector<double> reverse;
      const RowGradient gradient = row_gradient(chunk, stats, coefficients, reverse);
      ops_.preference_backward(logits.z, logits.lse, logits.zr, logits.lse_r, kl_rows, reverse, gradient, targets,
                               coefficients);
      decoder_.head_backward(logits.z, dhidden.slice(chunk.begin, chunk.end));
    }
    decoder_.backward(batch_.input, pass, kept, dhidden, gradients, arena_);
  }

  RowGradient row_gradient(const Chunk& chunk, const StepStats& stats, std::vector<float>& coefficients,
                           std::vector<double>& reverse) const {
    const size_t rows = static_cast<size_t>(chunk.end - chunk.begin);
    RowGradient g{std::vector<float>(rows), std::vector<float>(rows), std::vector<float>(rows)};
    std::vector<double> mass(rows);
    for (const size_t i : chunk.terms) {
      const Term& t = batch_.terms[i];
      const double c = stats.pairs[static_cast<size_t>(t.pair)].loss.coefficient[at(t.branch)] / settings_.normalizer;
      coefficients.push_back(static_cast<float>(c));
      mass[static_cast<size_t>(t.at.row - chunk.begin)] += c;
    }
    for (size_t r = 0; r < rows; ++r) g.mass[r] = static_cast<float>(mass[r]);
    for (const size_t i : chunk.kl_rows) {
      const KlRow& r = batch_.kl_rows[i];
      const double weight = objective_.alpha / (settings_.normalizer * kl_divisor(static_cast<size_t>(r.pair)));
      g.forward_kl[static_cast<size_t>(r.row - chunk.begin)] = static_cast<float>(weight * objective_.lambda);
      g.reverse_kl[static_cast<size_t>(r.row - chunk.begin)] = static_cast<float>(weight * (1 - objective_.lambda));
      reverse.push_back(kl_reverse_[i]);
    }
    return g;
  }

  Ops& ops_;
  const Decoder& decoder_;
  const PackedBatch& batch_;
  const Objective& objective_;
  const StepSettings& settings_;
  int64_t vocab_size_;
  Arena& arena_;
  std::vector<Chunk> chunks_;
  Tensor reference_, policy_;  // hidden rows [P, H]
  std::vector<double> kl_forward_, kl_reverse_;
  std::vector<double> policy_logps_, reference_logps_;
  std::vector<int64_t> kl_count_;
};

}  // namespace

StepStats run_preference_step(Ops& ops, const Decoder& decoder, const PackedBatch& batch, const Objective& objective,
                              std::span<const Pair> pairs, const Adapter* policy, Adapter* gradients,
                              const StepSettings& settings, int64_t vocab_size, Arena& arena) {
  return PreferenceStep(ops, decoder, batch, objective, settings, vocab_size, arena).run(pairs, policy, gradients);
}

}  // namespace fire
