// The tables of attention plans against the plans themselves, row by row and key by key.
#include "ops/attention_tables.h"

#include <map>
#include <set>
#include <utility>

#include "fixture.h"

using namespace fire;
using namespace fire::test;

namespace {

/// Does query row `query` of the span see key row `key`?
bool sees(const AttentionPlan& plan, const AttentionSpan& s, int32_t query, int32_t key) {
  if (query < s.query_begin || query >= s.query_end) return false;
  for (const KeyRange& range : plan.context(s))
    if (key >= range.begin && key < range.end) return true;
  if (key < s.own_begin || key >= s.own_end) return false;
  return !s.causal || key <= plan.key_row[static_cast<size_t>(query)];
}

int32_t count_seen(const AttentionPlan& plan, const AttentionSpan& s, int32_t query, int32_t keys) {
  int32_t count = 0;
  for (int32_t k = 0; k < keys; ++k) count += sees(plan, s, query, k);
  return count;
}

void check_spans(const AttentionPlan& plan, const AttentionTables& t) {
  CHECK(t.spans.size() == plan.spans.size() * 8);
  for (size_t i = 0; i < plan.spans.size(); ++i) {
    const AttentionSpan& s = plan.spans[i];
    const std::vector<int32_t> row(t.spans.begin() + static_cast<std::ptrdiff_t>(8 * i),
                                   t.spans.begin() + static_cast<std::ptrdiff_t>(8 * i + 8));
    int32_t keys = 0;
    for (int32_t r = s.context_begin; r < s.context_end; ++r)
      keys += t.ranges[static_cast<size_t>(2 * r + 1)] - t.ranges[static_cast<size_t>(2 * r)];
    CHECK((row == std::vector<int32_t>{s.query_begin, s.query_end, s.context_begin, s.context_end, keys, s.own_begin,
                                       s.own_end, s.causal ? 1 : 0}));
  }
}

/// Every row of every span is in one tile of its span, and no row of a tile sees more keys than the tile says.
void check_query_tiles(const AttentionPlan& plan, const AttentionTables& t, int32_t keys) {
  std::set<std::pair<int32_t, int32_t>> covered;  // (span, row)
  bool decoding = false;
  int32_t most = INT32_MAX;
  for (size_t i = 0; i < t.query_tiles.size(); i += 3) {
    const int32_t span = t.query_tiles[i], first = t.query_tiles[i + 1], tile_keys = t.query_tiles[i + 2];
    const AttentionSpan& s = plan.spans[static_cast<size_t>(span)];
    if (s.decodes && !decoding) most = INT32_MAX;  // the rows that decode begin
    CHECK(s.decodes || !decoding);
    CHECK(tile_keys <= most);
    decoding = s.decodes;
    most = tile_keys;
    int32_t widest = 0;
    for (int32_t q = first; q < std::min(first + attention_tile, s.query_end); ++q) {
      CHECK(covered.emplace(span, q).second);
      CHECK(keys_seen(plan, s, q) == count_seen(plan, s, q, keys));
      widest = std::max(widest, count_seen(plan, s, q, keys));
    }
    CHECK(tile_keys == widest);
  }
  size_t rows = 0;
  for (const AttentionSpan& s : plan.spans) rows += static_cast<size_t>(s.query_end - s.query_begin);
  CHECK(covered.size() == rows);
}

/// Of tiles side by side in a group, the first and second, the third and fourth, ... are pairs.
void check_pairs(const AttentionPlan& plan, const AttentionTables& t) {
  std::map<std::pair<int32_t, int32_t>, size_t> rows;  // by group and begin
  for (size_t i = 0; i < t.key_tiles.size(); i += 4) {
    const int32_t span = t.key_spans[2 * static_cast<size_t>(t.key_tiles[i + 2])];
    rows[{plan.spans[static_cast<size_t>(span)].group, t.key_tiles[i]}] = i / 4;
  }
  int32_t group = -1, end = -1;
  size_t before = 0, place = 0;
  for (const auto& [key, row] : rows) {
    place = key.first == group && key.second == end ? place + 1 : 0;
    if (place % 2 == 1) CHECK((before % 2 == 0 && row == before + 1));
    group = key.first, end = t.key_tiles[4 * row + 1], before = row;
  }
}

/// Every key that is seen is in one tile, and a tile lists exactly the spans and rows that see some key of it.
void check_key_tiles(const AttentionPlan& plan, const AttentionTables& t, int32_t keys) {
  std::vector<int> tiles_of(static_cast<size_t>(keys), 0);
  int64_t most = INT64_MAX, of_pair = 0;
  for (size_t i = 0; i < t.key_tiles.size(); i += 4) {
    const int32_t begin = t.key_tiles[i], end = t.key_tiles[i + 1], first = t.key_tiles[i + 2],
                  count = t.key_tiles[i + 3];
    CHECK(begin < end);
    CHECK(end - begin <= attention_tile);
    for (int32_t k = begin; k < end; ++k) ++tiles_of[static_cast<size_t>(k)];
    std::vector<int32_t> wanted;  // span, first row
    int64_t queries = 0;
    for (size_t s = 0; s < plan.spans.size(); ++s) {
      const AttentionSpan& span = plan.spans[s];
      for (int32_t q = span.query_begin; q < span.query_end; ++q) {
        bool some = false;
        for (int32_t k = begin; k < end; ++k) some = some || sees(plan, span, q, k);
        if (!some) continue;
        wanted.insert(wanted.end(), {static_cast<int32_t>(s), q});
        queries += span.query_end - q;
        break;
      }
    }
    const auto list = t.key_spans.begin() + 2 * first;
    CHECK(wanted == std::vector<int32_t>(list, list + 2 * count));
    of_pair = std::max(of_pair, queries);
    if (i / 4 % 2 == 0) continue;
    CHECK(of_pair <= most);
    most = std::exchange(of_pair, 0);
  }
  check_pairs(plan, t);
  for (int32_t k = 0; k < keys; ++k) {
    int seen = 0;
    for (const AttentionSpan& s : plan.spans)
      for (int32_t q = s.query_begin; q < s.query_end; ++q) seen |= sees(plan, s, q, k);
    CHECK(tiles_of[static_cast<size_t>(k)] == seen);
  }
}

void check_tables(const AttentionPlan& plan, int32_t keys) {
  const AttentionTables t = make_tables(plan);
  check_spans(plan, t);
  check_query_tiles(plan, t, keys);
  check_key_tiles(plan, t, keys);
}

/// A tree from key row `begin` on, asked by a random part of its rows; returns the end of its keys.
int32_t add_random_tree(AttentionPlan& plan, int32_t begin, Random& random) {
  const int32_t root_end = begin + static_cast<int32_t>(random.integer(1, 150)), group = plan.groups++;
  std::vector<std::vector<KeyRange>> paths = {{{begin, root_end}}};  // the ranges that a child of each node sees
  int32_t end = root_end;
  const auto add = [&](AttentionSpan span) {
    span.query_begin = static_cast<int32_t>(plan.key_row.size());
    const double share = random.chance(0.3) ? 0.05 : 0.8;
    for (int32_t key = span.own_begin; key < span.own_end; ++key)
      if (random.chance(share)) plan.key_row.push_back(key);
    span.query_end = static_cast<int32_t>(plan.key_row.size());
    span.decodes = span.query_end - span.query_begin == 1 && random.chance(0.5);
    if (span.query_end > span.query_begin) plan.spans.push_back(span);
  };
  add({0, 0, 0, 0, begin, root_end, random.chance(0.8), group});
  for (int64_t nodes = random.integer(0, 6); nodes > 0; --nodes) {
    std::vector<KeyRange> path = paths[static_cast<size_t>(random.integer(0, static_cast<int64_t>(paths.size()) - 1))];
    const KeyRange context = plan.add_context(path);
    const int32_t own = end + static_cast<int32_t>(random.integer(0, 20));
    end = own + static_cast<int32_t>(random.integer(1, 100));
    add({0, 0, context.begin, context.end, own, end, random.chance(0.8), group});
    path.push_back({own, end});
    paths.push_back(std::move(path));
  }
  return end;
}

}  // namespace

TEST("attention tables: random packed plans, key by key") {
  Random random(5);
  for (int round = 0; round < 30; ++round) {
    AttentionPlan plan;
    int32_t keys = 0;
    for (int64_t blocks = random.integer(1, 3); blocks > 0; --blocks)
      keys = add_random_tree(plan, keys + static_cast<int32_t>(random.integer(0, 9)), random);
    check_tables(plan, keys + 3);
  }
}

TEST("attention tables: decoding, with as many groups as slots") {
  AttentionPlan plan;
  for (const int32_t length : {1, 64, 65, 200}) {
    const int32_t row = plan.groups++, base = row * 210, key = base + length - 1;
    plan.spans.push_back({row, row + 1, 0, 0, base, key + 1, true, row, true});
    plan.key_row.push_back(key);
  }
  check_tables(plan, 4 * 210);
  const AttentionTables t = make_tables(plan);
  CHECK((t.query_tiles == std::vector<int32_t>{3, 3, 200, 2, 2, 65, 1, 1, 64, 0, 0, 1}));
}

TEST("attention tables: where a group's tiles begin does not depend on other groups") {
  AttentionPlan plan;
  plan.spans = {{0, 70, 0, 0, 0, 70, true, 0}, {70, 140, 0, 0, 70, 140, true, 1}};
  for (int32_t i = 0; i < 140; ++i) plan.key_row.push_back(i);
  plan.groups = 2;
  check_tables(plan, 140);
  std::set<int32_t> begins;
  const AttentionTables t = make_tables(plan);
  for (size_t i = 0; i < t.key_tiles.size(); i += 4) begins.insert(t.key_tiles[i]);
  CHECK((begins == std::set<int32_t>{0, 64, 70, 134}));
}

TEST("attention tables: nothing to do gives empty tables") {
  const AttentionTables t = make_tables({});
  CHECK(t.spans.empty() && t.query_tiles.empty() && t.key_tiles.empty() && t.key_spans.empty());
}

TEST("attention tables: plans that the kernels could not run are refused") {
  const auto refused = [](AttentionSpan span, std::vector<int32_t> key_row, const char* word) {
    AttentionPlan plan;
    plan.spans = {span};
    plan.ranges = {{0, 3}, {2, 4}, {9, 9}};
    plan.key_row = std::move(key_row);
    plan.groups = 1;
    CHECK_ERROR(Code::internal, (word), make_tables(plan));
  };
  refused({0, 2, 0, 0, 0, 5, true, 1}, {0, 1}, "group");
  refused({0, 2, 0, 1, 2, 5, true, 0}, {2, 3}, "own keys overlap");
  refused({0, 2, 0, 2, 5, 7, true, 0}, {5, 6}, "ranges of its context overlap");
  refused({0, 2, 2, 3, 5, 7, true, 0}, {5, 6}, "empty");
  refused({0, 2, 2, 4, 5, 7, true, 0}, {5, 6}, "outside the ranges");
  refused({0, 2, 1, 0, 5, 7, true, 0}, {5, 6}, "outside the ranges");
  refused({0, 2, 0, 0, 5, 4, false, 0}, {0, 0}, "end before they begin");
  refused({0, 2, 0, 0, 0, 5, true, 0, true}, {0, 1}, "one row decodes");
  refused({0, 3, 0, 0, 0, 5, true, 0}, {0, 1}, "without a key row");
  refused({0, 2, 0, 0, 0, 5, true, 0}, {0, 5}, "outside");
  refused({0, 2, 0, 0, 0, 5, true, 0}, {3, 2}, "fall");
  refused({0, 2, 0, 0, 0, 5, true, 0}, {-1, 2}, "no key");
  refused({0, 2, 0, 0, 4, 4, false, 0}, {0, 0}, "no key");
}
