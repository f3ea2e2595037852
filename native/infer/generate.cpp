#include "infer/generate.h"

#include <algorithm>
#include <cmath>

#include "tensor/rng.h"

namespace fire {
namespace {

/// A prompt that is being continued, and the cache rows [slot * capacity, ...) it owns.
struct Active {
  size_t prompt;
  int64_t slot;
  int64_t length;         // tokens in the cache
  int32_t next_position;  // of the token to be fed
  int32_t token;          // to be fed
};

class Generator {
 public:
  Generator(Ops& ops, const Decoder& decoder, const ModelConfig& config, const Adapter* adapter,
            const std::vector<GenerationPrompt>& prompts, const Sampling& sampling, Arena& arena,
            const TokenCallback& on_token, const std::atomic<bool>* cancel)
      : ops_(ops),
        decoder_(decoder),
        config_(config),
        adapter_(adapter),
        prompts_(prompts),
        sampling_(sampling),
        arena_(arena),
        on_token_(on_token),
        cancel_(cancel),
        results_(prompts.size()) {
    size_t longest = 0;
    for (const GenerationPrompt& p : prompts) longest = std::max(longest, p.ids.size());
    capacity_ = static_cast<int64_t>(longest) + sampling.max_new_tokens;
    const int64_t slots =
        std::min<int64_t>(std::max<int64_t>(1, sampling.batch_size), static_cast<int64_t>(prompts.size()));
    for (int64_t s = slots - 1; s >= 0; --s) free_slots_.push_back(s);
    cache_.emplace(ops, config.text, slots * capacity_);
  }

  std::vector<Generated> run() {
    size_t next = 0;
    while (next < prompts_.size() || !active_.empty()) {
      if (next < prompts_.size() && !free_slots_.empty()) next = prefill(next);
      if (!active_.empty()) decode();
    }
    return std::move(results_);
  }

 private:
  /// Starts as many prompts as there are free slots, in one packed pass.
  size_t prefill(size_t next) {
    DecoderInput input;
    std::vector<Active> started;
    for (; next < prompts_.size() && !free_slots_.empty(); ++next) {
      const GenerationPrompt& prompt = prompts_[next];
      const int32_t begin = append_sequence(input, prompt.ids, prompt.images, config_);
      const int64_t length = static_cast<int64_t>(prompt.ids.size());
      int32_t last = -1;
      for (const auto& axis : input.positions)
        last = std::max(last, *std::max_element(axis.begin() + begin, axis.end()));
      started.push_back({next, free_slots_.back(), length, last + 1, 0});
      free_slots_.pop_back();
      move_to_cache(input, begin, started.back());
      input.read_rows.push_back(begin + static_cast<int32_t>(length) - 1);
    }
    advance(input, started);
    return next;
  }

  /// Points the newest span of the input at the sequence's rows in the cache.
  void move_to_cache(DecoderInput& input, int32_t begin, const Active& a) const {
    const int32_t shift = static_cast<int32_t>(a.slot * capacity_) - begin;
    AttentionSpan& span = input.plan.spans.back();
    span.own_begin += shift;
    span.own_end += shift;
    for (size_t i = static_cast<size_t>(begin); i < input.plan.key_row.size(); ++i) {
      input.plan.key_row[i] += shift;
      input.cache_rows.push_back(input.plan.key_row[i]);
    }
  }

  void decode() {
    DecoderInput input;
    for (size_t i = 0; i < active_.size(); ++i) {
      Active& a = active_[i];
      const int32_t row = static_cast<int32_t>(i), base = static_cast<int32_t>(a.slot * capacity_);
      const int32_t key = base + static_cast<int32_t>(a.length);
      input.ids.push_back(a.token);
      for (auto& axis : input.positions) axis.push_back(a.next_position);
      input.plan.spans.push_back({row, row + 1, 0, 0, base, key + 1, true, row});
      input.plan.key_row.push_back(key);
      input.cache_rows.push_back(key);
      input.read_rows.push_back(row);
      ++a.length;
      ++a.next_position;
    }
    input.plan.groups = static_cast<int32_t>(active_.size());
    std::vector<Active> continued;
    continued.swap(active_);
    advance(input, continued);
  }

  /// Runs the input, samples one token for each sequence, keeps those that go on in `active_`.
  void advance(const DecoderInput& input, std::vector<Active>& sequences) {
    Arena::Scope scope(arena_);
    const int64_t vocab = config_.text.vocab_size, rows = static_cast<int64_t>(sequences.size());
    DecoderPass pass;
    pass.adapter = adapter_;
    pass.cache = &*cache_;
    pass.cancel = cancel_;
    const Tensor hidden = decoder_.forward(input, pass, arena_, nullptr);
    Tensor logits = arena_.f32({rows, vocab});
    decoder_.head(hidden, 0, logits);
    std::vector<double> uniforms;
    for (const Active& a : sequences) uniforms.push_back(uniform_of(a));
    const std::vector<SampledToken> drawn = ops_.sample(logits, sampling_.rule, uniforms);
    for (size_t i = 0; i < sequences.size(); ++i) {
      Active& a = sequences[i];
      if (accept(a, drawn[i])) {
        active_.push_back(a);
      } else {
        free_slots_.push_back(a.slot);
      }
    }
  }

  /// The draw for the next token of a sequence: a value of its seed and its length alone.
  double uniform_of(const Active& a) const {
    const Philox4 bits = philox(prompts_[a.prompt].seed, {static_cast<uint32_t>(results_[a.prompt].tokens.size()), 0,
                                                          static_cast<uint32_t>(RngStream::sampling), 0});
    return uniform53(bits[0], bits[1]);
  }

  /// True when the sequence goes on.
  bool accept(Active& a, const SampledToken& drawn) {
    if (std::isnan(drawn.logprob))
      throw Error(Code::nonfinite, "prompt " + std::to_string(a.prompt) + " gave logits that are not finite numbers");
    Generated& result = results_[a.prompt];
    a.token = drawn.token;
    result.logprob += drawn.logprob;
    const auto& stops = sampling_.stop_tokens;
    if (std::find(stops.begin(), stops.end(), a.token) != stops.end()) {
      result.stopped = true;
      return false;
    }
    result.tokens.push_back(a.token);
    if (on_token_) on_token_(a.prompt, a.token);
    return static_cast<int64_t>(result.tokens.size()) < sampling_.max_new_tokens;
  }

  Ops& ops_;
  const Decoder& decoder_;
  const ModelConfig& config_;
  const Adapter* adapter_;
  const std::vector<GenerationPrompt>& prompts_;
  const Sampling& sampling_;
  Arena& arena_;
  const TokenCallback& on_token_;
  const std::atomic<bool>* cancel_;
  std::vector<Generated> results_;
  int64_t capacity_ = 0;
  std::vector<int64_t> free_slots_;
  std::vector<Active> active_;
  std::optional<KvCache> cache_;
};

}  // namespace

std::vector<Generated> generate(Ops& ops, const Decoder& decoder, const ModelConfig& config, const Adapter* adapter,
                                const std::vector<GenerationPrompt>& prompts, const Sampling& sampling, Arena& arena,
                                const TokenCallback& on_token, const std::atomic<bool>* cancel) {
  if (prompts.empty()) return {};
  if (sampling.max_new_tokens <= 0) throw Error(Code::invalid_argument, "maxNewTokens must be positive");
  return Generator(ops, decoder, config, adapter, prompts, sampling, arena, on_token, cancel).run();
}

}  // namespace fire
