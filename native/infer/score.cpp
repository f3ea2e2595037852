#include "infer/score.h"

#include <algorithm>
#include <numeric>

namespace fire {

std::vector<float> token_logprobs(Ops& ops, const Decoder& decoder, const ModelConfig& config, const Adapter* adapter,
                                  const SequenceToScore& sequence, Arena& arena, const std::atomic<bool>* cancel) {
  Arena::Scope scope(arena);
  DecoderInput input;
  append_sequence(input, sequence.ids, sequence.images, config);
  const int64_t rows = input.tokens() - 1;
  if (rows == 0) return {};
  input.read_rows.resize(static_cast<size_t>(rows));
  std::iota(input.read_rows.begin(), input.read_rows.end(), 0);
  DecoderPass pass;
  pass.adapter = adapter;
  pass.cancel = cancel;
  const Tensor hidden = decoder.forward(input, pass, arena, nullptr);

  constexpr int64_t chunk = 128;  // rows of logits in memory together
  std::vector<float> logprobs;
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    Arena::Scope inner(arena);
    const int64_t end = std::min(rows, begin + chunk);
    Tensor z = arena.f32({end - begin, config.text.vocab_size}), lse = arena.f32({end - begin});
    decoder.head(hidden.slice(begin, end), z);
    ops.log_sum_exp(z, lse);
    std::vector<RowTarget> targets;
    for (int64_t i = begin; i < end; ++i)
      targets.push_back({static_cast<int32_t>(i - begin), sequence.ids[static_cast<size_t>(i) + 1]});
    for (const double lp : ops.target_logprobs(z, lse, targets)) logprobs.push_back(static_cast<float>(lp));
  }
  return logprobs;
}

std::vector<std::vector<float>> image_attention(const Decoder& decoder, const ModelConfig& config,
                                                const Adapter* adapter, const SequenceToScore& sequence,
                                                const std::vector<int32_t>& positions, Arena& arena) {
  Arena::Scope scope(arena);
  DecoderInput input;
  append_sequence(input, sequence.ids, sequence.images, config);
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
  decoder.forward(input, pass, arena, nullptr);
  std::vector<std::vector<float>> weights;
  for (AttentionRequest& r : requests) weights.push_back(std::move(r.weights));
  return weights;
}

}  // namespace fire
