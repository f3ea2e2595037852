// Random pairs that have much in common: images (some under other names), questions, answers, first words.
#pragma once

#include <set>

#include "fixture.h"

namespace fire::test {

class SharedPairs {
 public:
  /// `image_tokens` of the images "0" to "3" of a TinyModel; the letter of "0b" makes another name of "0".
  SharedPairs(Random& random, const ModelConfig& config, std::function<int64_t(const std::string&)> image_tokens)
      : random_(random),
        image_token_(static_cast<int32_t>(config.image_token_id)),
        last_(static_cast<int32_t>(config.text.vocab_size) * 5 / 8),
        image_tokens_(std::move(image_tokens)),
        heads_{random.ids(20, 0, last_), random.ids(20, 0, last_)} {
    heads_[1][0] = heads_[0][0] + 1;
    const std::vector<int32_t> words = random.ids(3, 0, last_);
    for (int i = 0; i < 3; ++i) questions_.push_back(joined({words, random.ids(random.integer(1, 4), 0, last_)}));
    questions_.push_back(words);
    for (int i = 0; i < 4; ++i)
      answers_.push_back(joined({i % 2 ? words : std::vector<int32_t>(), random.ids(random.integer(2, 6), 0, last_)}));
    answers_.push_back({answers_[0].begin(), answers_[0].begin() + 2});  // another answer begins with all of it
  }

  Pair pair(const std::string& id) {
    Pair p;
    p.id = id;
    p.images = pick(image_lists_);
    if (random_.chance(0.7))  // only "0" has a twin of its size; others are their own
      for (const std::string& image : p.images)
        p.corrupted_images.push_back(image[0] == '0' ? "3" + image.substr(1) : image);
    p.prompt = pick(heads_);  // longer than what it takes to share, and without a common token
    for (const std::string& image : p.images)
      p.prompt =
          joined({p.prompt, std::vector<int32_t>(static_cast<size_t>(image_tokens_(image)), image_token_), {last_}});
    p.prompt = joined({p.prompt, pick(questions_)});
    p.chosen = pick(answers_);
    p.rejected = pick(answers_);
    p.chosen_mask = mask(p.chosen.size());
    p.rejected_mask = mask(p.rejected.size());
    p.weight = pick(weights_);
    return p;
  }

  std::vector<Pair> batch(int64_t count) {
    std::vector<Pair> pairs;
    for (int64_t i = 0; i < count; ++i) pairs.push_back(pair("p" + std::to_string(i)));
    if (random_.chance(0.3)) pairs.push_back(pairs[0]);  // twice the same
    return pairs;
  }

 private:
  static std::vector<int32_t> joined(std::initializer_list<std::vector<int32_t>> parts) {
    std::vector<int32_t> all;
    for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
  }

  template <class T>
  const T& pick(const std::vector<T>& all) {
    return all[static_cast<size_t>(random_.integer(0, static_cast<int64_t>(all.size()) - 1))];
  }

  std::vector<uint8_t> mask(size_t n) {
    std::vector<uint8_t> mask(n);
    for (uint8_t& m : mask) m = random_.chance(0.5);
    if (random_.chance(0.9)) mask[static_cast<size_t>(random_.integer(0, static_cast<int64_t>(n) - 1))] = 1;
    return mask;
  }

  Random& random_;
  int32_t image_token_, last_;
  std::function<int64_t(const std::string&)> image_tokens_;
  std::vector<std::vector<int32_t>> heads_, questions_, answers_;
  const std::vector<std::vector<std::string>> image_lists_{{},    {"0"},      {"0"},      {"0b"},
                                                           {"1"}, {"0", "1"}, {"0", "2"}, {"0b", "1"}};
  const std::vector<double> weights_{1, 1, 0.5, 2, 0};
};

/// Tokens that a batch feeds when a token is fed once for all that comes before and with it, counted from the pairs
/// alone. `together`: pairs share; else only the two answers about one image do.
inline int64_t distinct_tokens(const std::vector<Pair>& pairs, const Objective& objective, int64_t image_token,
                               bool together) {
  using Token = std::pair<int32_t, std::string>;  // an image token has its image
  std::set<std::pair<size_t, std::vector<Token>>> distinct;
  for (size_t p = 0; p < pairs.size(); ++p)
    for (const Branch branch :
         {Branch::chosen, Branch::rejected, Branch::corrupted_chosen, Branch::corrupted_rejected}) {
      const Pair& pair = pairs[p];
      if (!objective.runs(branch, pair.has_corrupted())) continue;
      const std::vector<Scored> scored = scored_tokens(pair, branch, objective);
      if (scored.empty()) continue;
      const auto& images = is_corrupted(branch) ? pair.corrupted_images : pair.images;
      const auto& answer = pair.answer(branch);
      std::vector<Token> fed;
      size_t image = 0;
      const size_t unshared = together ? 0 : 2 * p + is_corrupted(branch) + 1;
      for (size_t i = 0; i < pair.prompt.size() + static_cast<size_t>(scored.back().token); ++i) {
        const int32_t id = i < pair.prompt.size() ? pair.prompt[i] : answer[i - pair.prompt.size()];
        const bool in_image = image < images.size() && id == image_token;
        // Text stands behind every image.
        if (!fed.empty() && !fed.back().second.empty() && !in_image) ++image;
        fed.push_back({id, in_image ? images[image].substr(0, 1) : ""});
        distinct.insert({unshared, fed});
      }
    }
  return static_cast<int64_t>(distinct.size());
}

}  // namespace fire::test
