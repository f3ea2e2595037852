// Trees of sequences: which tokens share a row, and that a row attends to exactly what comes before it in its sequence.
#include "model/sequence_tree.h"

#include <map>
#include <numeric>

#include "fixture.h"

using namespace fire;
using namespace fire::test;

namespace {

/// A config to make sequences with, and images of several grids.
struct World {
  Engine engine{engine_spec("qwen3_vl")};
  std::vector<std::unique_ptr<ImageFeatures>> images;

  World() {
    for (const TokenGrid grid : {TokenGrid{2, 3}, {2, 3}, {4, 5}, {1, 1}})
      add(grid, 0xA24BAED4963EE407 * (images.size() + 1));
  }

  void add(TokenGrid grid, uint64_t content) {
    images.push_back(std::make_unique<ImageFeatures>(engine.images().pool(), DType::f32, grid, 8, 0));
    images.back()->content = content;
  }

  Sequence text(const std::vector<int32_t>& ids) { return make_sequence(ids, {}, ids.size(), engine.config()); }

  /// Of the parts in order: a number >= 0 is a token, a number < 0 image -1 - number.
  Sequence mixed(const std::vector<int32_t>& parts) {
    std::vector<int32_t> ids;
    std::vector<const ImageFeatures*> shown;
    for (const int32_t part : parts) {
      if (part >= 0) {
        ids.push_back(part);
        continue;
      }
      shown.push_back(images[static_cast<size_t>(-1 - part)].get());
      ids.insert(ids.end(), static_cast<size_t>(shown.back()->tokens()),
                 static_cast<int32_t>(engine.config().image_token_id));
    }
    return make_sequence(ids, shown, ids.size(), engine.config());
  }
};

std::vector<const Sequence*> pointers(const std::vector<Sequence>& sequences) {
  std::vector<const Sequence*> all;
  for (const Sequence& s : sequences) all.push_back(&s);
  return all;
}

struct Expected {
  int32_t parent;
  size_t begin, end;
};

void check_tree(const std::vector<Sequence>& sequences, const std::vector<Expected>& nodes,
                const std::vector<int32_t>& last, Ends ends = Ends::run_on) {
  const SequenceTree tree = grow_tree(pointers(sequences), ends);
  CHECK(tree.last == last);
  CHECK(tree.nodes.size() == nodes.size());
  for (size_t n = 0; n < std::min(nodes.size(), tree.nodes.size()); ++n) {
    CHECK(tree.nodes[n].parent == nodes[n].parent);
    CHECK(tree.nodes[n].begin == nodes[n].begin && tree.nodes[n].end == nodes[n].end);
  }
}

/// The keys that a row sees, in order.
std::vector<int32_t> keys_of(const AttentionPlan& plan, int32_t row) {
  std::vector<int32_t> keys;
  for (const AttentionSpan& span : plan.spans) {
    if (row < span.query_begin || row >= span.query_end) continue;
    for (const KeyRange& range : plan.context(span))
      for (int32_t key = range.begin; key < range.end; ++key) keys.push_back(key);
    for (int32_t key = span.own_begin; key <= plan.key_row[static_cast<size_t>(row)]; ++key) keys.push_back(key);
  }
  return keys;
}

}  // namespace

TEST("sequence tree: several levels, in the order of the sequences") {
  World w;
  // A prompt, two questions with a common word, answers; the last sequence ends where others go on.
  const std::vector<Sequence> sequences = {w.text({1, 2, 3, 10, 20, 30}), w.text({1, 2, 3, 10, 20, 31, 32}),
                                           w.text({1, 2, 3, 10, 21, 40}), w.text({1, 2, 3, 11}),
                                           w.text({1, 2, 3, 10, 20})};
  check_tree(sequences, {{-1, 0, 3}, {0, 3, 4}, {1, 4, 5}, {2, 5, 6}, {2, 5, 7}, {1, 4, 6}, {0, 3, 4}},
             {3, 4, 5, 6, 2});
}

TEST("sequence tree: a sequence that comes twice cuts nothing, and one that ends does where that is asked for") {
  World w;
  const std::vector<Sequence> sequences = {w.text({1, 2}), w.text({1, 2, 3, 4}), w.text({1, 2, 3, 4}), w.text({1})};
  check_tree(sequences, {{-1, 0, 4}}, {0, 0, 0, 0});
  check_tree(sequences, {{-1, 0, 1}, {0, 1, 2}, {1, 2, 4}}, {1, 2, 2, 0}, Ends::cut);
}

TEST("sequence tree: another image is another token, and an image is whole or not shared") {
  World w;
  check_tree({w.mixed({5, -1, 6}), w.mixed({5, -2, 6}), w.mixed({5, -1, 7})},
             {{-1, 0, 1}, {0, 1, 7}, {1, 7, 8}, {1, 7, 8}, {0, 1, 8}}, {2, 4, 3});
  // Images that touch: the second one differs.
  check_tree({w.mixed({5, -1, -4, 6}), w.mixed({5, -1, -3})}, {{-1, 0, 7}, {0, 7, 9}, {0, 7, 27}}, {1, 2});
}

TEST("sequence tree: sequences join from 16 common tokens on, or a whole prompt") {
  World w;
  Random random(2);
  const std::vector<int32_t> head = random.ids(30, 0, 50);
  const auto with_head = [&](size_t common, int32_t next, size_t prompt) {
    std::vector<int32_t> ids(head.begin(), head.begin() + static_cast<std::ptrdiff_t>(common));
    ids.insert(ids.end(), 10, next);
    Sequence s = w.text(ids);
    s.prompt_length = prompt;
    return s;
  };
  const TreeMembers together{{0, 1}}, apart{{0}, {1}};
  const auto group = [](const std::vector<Sequence>& sequences) { return group_by_start(sequences); };
  CHECK(group({with_head(16, 60, 26), with_head(16, 61, 26)}) == together);
  CHECK(group({with_head(15, 60, 25), with_head(15, 61, 25)}) == apart);
  CHECK(group({with_head(4, 60, 4), with_head(4, 61, 4)}) == together);  // one short prompt, two answers
  CHECK(group({with_head(4, 60, 5), with_head(4, 61, 14)}) == apart);
  CHECK(group({w.mixed({1, -3, 2}), w.mixed({1, -3, 3})}) == together);
  CHECK(group({w.mixed({1, -1, 2, 3, 4, 5, 6, 7, 8, 9, 10}), w.mixed({1, -2, 2, 3, 4, 5, 6, 7, 8, 9, 10})}) == apart);
  // Joining the first tree that fits, whatever came between.
  CHECK(group({with_head(20, 60, 30), w.text({55, 55}), with_head(20, 61, 30)}) == TreeMembers({{0, 2}, {1}}));
}

TEST("sequence tree: a row is what comes before it, once, and attends to exactly that") {
  World w;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    std::vector<Sequence> sequences;
    const int64_t count = random.integer(1, 9);
    for (int64_t s = 0; s < count; ++s) {
      std::vector<int32_t> parts;
      const int64_t length = random.integer(1, 8);
      // Few different parts, so that sequences part at every depth.
      for (int64_t i = 0; i < length; ++i)
        parts.push_back(static_cast<int32_t>(random.chance(0.3) ? random.integer(-4, -1) : random.integer(0, 1)));
      sequences.push_back(w.mixed(parts));
    }
    TreeMembers trees;  // by the first token
    for (size_t s = 0; s < sequences.size(); ++s) {
      const auto tree = std::find_if(trees.begin(), trees.end(), [&](const std::vector<size_t>& members) {
        return common_length(sequences[members[0]], sequences[s]) > 0;
      });
      if (tree == trees.end()) {
        trees.push_back({s});
      } else {
        tree->push_back(s);
      }
    }
    DecoderInput input;
    append_sequence(input, make_sequence({7, 7}, {}, 2, w.engine.config()));  // others stand before
    const auto rows = append_trees(input, sequences, trees);
    CHECK(input.plan.groups == 1 + static_cast<int32_t>(trees.size()));

    using Token = std::pair<int32_t, const ImageFeatures*>;
    std::map<std::vector<Token>, int32_t> row_of;
    std::map<uint64_t, std::vector<Token>> seen;  // by the key of dropout
    CHECK(input.row_keys.size() == input.ids.size());
    std::map<int32_t, std::pair<const ImageFeatures*, int32_t>> feature_at;  // image and feature of a row
    for (const ImagePlacement& image : input.images) {
      CHECK(static_cast<int64_t>(image.rows.size()) == image.features->tokens());
      for (size_t i = 0; i < image.rows.size(); ++i) {
        const bool is_new = feature_at.insert({image.rows[i], {image.features, static_cast<int32_t>(i)}}).second;
        CHECK(is_new);
      }
    }
    for (size_t s = 0; s < sequences.size(); ++s) {
      const Sequence& sequence = sequences[s];
      CHECK(rows[s].size() == sequence.ids.size());
      DecoderInput alone;
      append_sequence(alone, sequence);
      std::vector<Token> before;
      int64_t in_image = 0;
      for (size_t i = 0; i < rows[s].size(); ++i) {
        const int32_t row = rows[s][i];
        before.push_back({sequence.ids[i], sequence.images[i]});
        CHECK(row_of.insert({before, row}).first->second == row);
        const uint64_t key = input.row_keys[static_cast<size_t>(row)];
        CHECK(seen.insert({key, before}).first->second == before);
        CHECK(alone.row_keys[i] == key);
        CHECK(input.ids[static_cast<size_t>(row)] == sequence.ids[i]);
        for (size_t axis = 0; axis < 3; ++axis)
          CHECK(input.positions[axis][static_cast<size_t>(row)] == sequence.positions[axis][i]);
        CHECK(keys_of(input.plan, row) ==
              std::vector<int32_t>(rows[s].begin(), rows[s].begin() + static_cast<std::ptrdiff_t>(i) + 1));
        const ImageFeatures* image = sequence.images[i];
        CHECK((feature_at.count(row) == 1) == (image != nullptr));
        if (image) {
          CHECK(feature_at[row] == std::pair(image, static_cast<int32_t>(in_image)));
          in_image = (in_image + 1) % image->tokens();
        }
      }
    }
    CHECK(input.tokens() == 2 + static_cast<int64_t>(row_of.size()));
    for (const AttentionSpan& span : input.plan.spans) {
      CHECK(span.query_begin < span.query_end);
      int32_t end = -1;  // of the range before: ranges that touch would be one
      for (const KeyRange& range : input.plan.context(span)) {
        CHECK(range.begin > end && range.end > range.begin);
        end = range.end;
      }
      CHECK(end <= span.own_begin);
    }
  }
}

TEST("sequence tree: the keys of rows follow from the content of images, not from who holds it") {
  World w;
  w.add({2, 3}, w.images[0]->content);
  const auto keys = [&](int32_t image) {
    DecoderInput input;
    append_sequence(input, w.mixed({4, image, 5}));
    return input.row_keys;
  };
  const std::vector<uint64_t> own = keys(-1), other = keys(-2);  // of one grid
  CHECK(keys(-5) == own);
  CHECK(other.size() == own.size() && other[0] == own[0]);
  for (size_t i = 1; i < own.size(); ++i) CHECK(other[i] != own[i]);
}

TEST("sequence tree: siblings name one context") {
  World w;
  const std::vector<Sequence> sequences = {w.text({1, 2, 3}), w.text({1, 2, 4}), w.text({1, 2, 5})};
  DecoderInput input;
  append_trees(input, sequences, {{0, 1, 2}});
  const auto& spans = input.plan.spans;
  CHECK(spans.size() == 4 && input.plan.ranges.size() == 1);
  for (size_t i = 1; i < spans.size(); ++i) CHECK(spans[i].context_begin == 0 && spans[i].context_end == 1);
}

TEST("sequence tree: what is no sequence is refused") {
  World w;
  const ModelConfig& config = w.engine.config();
  const int32_t image = static_cast<int32_t>(config.image_token_id);
  const std::vector<const ImageFeatures*> shown{w.images[0].get()};
  CHECK_ERROR(Code::invalid_argument, ("no tokens"), make_sequence({}, {}, 0, config));
  CHECK_ERROR(Code::invalid_argument, ("vocabulary"), make_sequence({-7}, {}, 1, config));
  CHECK_ERROR(Code::invalid_argument, ("placeholder"), make_sequence({1, image}, {}, 2, config));
  CHECK_ERROR(Code::invalid_argument, ("placeholder"), make_sequence({1, image, 2}, shown, 3, config));
  CHECK_ERROR(Code::invalid_argument, ("placeholder"), make_sequence({1, 2}, shown, 2, config));
}
