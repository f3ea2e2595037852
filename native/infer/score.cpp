#include "infer/score.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "objective/row_summary.h"

namespace fire {
namespace {

[[noreturn]] void throw_nonfinite(int64_t position) {
  throw Error(Code::nonfinite, "position " + std::to_string(position) + " gave numbers that are not finite");
}

}  // namespace

std::vector<float> token_logprobs(const Context& context, const Adapter* adapter, const SequenceToScore& sequence) {
  Ops& ops = context.ops;
  Arena& arena = context.arena;
  const Decoder decoder(context);
  Arena::Scope scope(arena);
  DecoderInput input;
  append_sequence(input, sequence.ids, sequence.images, context.config);
  const int64_t rows = input.tokens() - 1;
  if (rows == 0) return {};
  input.read_rows.resize(static_cast<size_t>(rows));
  std::iota(input.read_rows.begin(), input.read_rows.end(), 0);
  DecoderPass pass;
  pass.adapter = adapter;
  const Tensor hidden = decoder.forward(input, pass, nullptr);

  constexpr int64_t chunk = 128;  // rows of logits in memory together
  const int64_t vocab = context.config.text.vocab_size, slices = vocabulary_slices(vocab);
  std::vector<float> logprobs;
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    Arena::Scope inner(arena);
    const int64_t count = std::min(chunk, rows - begin);
    const Tensor z = arena.f32({count, vocab}), target_logits = arena.f32({2, count});
    const Tensor statistics = arena.take(DType::f64, {count, slices, 6});
    std::vector<int32_t> targets;
    const int32_t* next = sequence.ids.data() + begin + 1;
    for (int64_t i = 0; i < count; ++i) targets.insert(targets.end(), {static_cast<int32_t>(i), std::max(next[i], 0)});
    decoder.head(hidden.slice(begin, begin + count), 0, z);
    ops.preference_statistics(z, {}, 0, ops.upload_i32(arena, targets).reshape({count, 2}), statistics, target_logits);
    std::vector<SliceStatistics> host(static_cast<size_t>(count * slices));
    ops.download(statistics, host.data());
    std::vector<float> values(static_cast<size_t>(2 * count));
    ops.download(target_logits, values.data());
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
      const auto row = std::span(host).subspan(i * static_cast<size_t>(slices), static_cast<size_t>(slices));
      const double lse = summarize_row(row, false).lse;
      if (!std::isfinite(lse)) throw_nonfinite(begin + static_cast<int64_t>(i));
      const double logprob = static_cast<double>(values[i]) - lse;
      logprobs.push_back(next[i] < 0 ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(logprob));
    }
  }
  return logprobs;
}

std::vector<std::vector<float>> image_attention(const Context& context, const Adapter* adapter,
                                                const SequenceToScore& sequence,
                                                const std::vector<int32_t>& positions) {
  Arena::Scope scope(context.arena);
  DecoderInput input;
  append_sequence(input, sequence.ids, sequence.images, context.config);
  std::vector<int32_t> columns;
  for (const ImagePlacement& image : input.images) columns.insert(columns.end(), image.rows.begin(), image.rows.end());
  std::vector<AttentionRequest> requests;
  for (const int32_t p : positions) {
    if (p < 0 || p >= input.tokens())
      throw Error(Code::invalid_argument, "position " + std::to_string(p) + " is outside the sequence of " +
                                              std::to_string(input.tokens()) + " tokens");
    requests.push_back({p, columns, {}});
    input.read_rows.push_back(p);
  }
  std::sort(input.read_rows.begin(), input.read_rows.end());
  input.read_rows.erase(std::unique(input.read_rows.begin(), input.read_rows.end()), input.read_rows.end());
  DecoderPass pass;
  pass.adapter = adapter;
  pass.attention = &requests;
  Decoder(context).forward(input, pass, nullptr);
  std::vector<std::vector<float>> weights;
  for (AttentionRequest& r : requests) {
    if (!std::all_of(r.weights.begin(), r.weights.end(), [](float w) { return std::isfinite(w); }))
      throw_nonfinite(r.query_row);
    weights.push_back(std::move(r.weights));
  }
  return weights;
}

}  // namespace fire
