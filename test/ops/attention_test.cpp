// Attention: a row has the same bits alone and in any batch, wherever it stands and whatever its memory.
#include "fixture.h"
#include "ops/cases/cases.h"
#include "ops/run.h"

using namespace fire;
using namespace fire::test;

namespace {

using cases::AttentionShape;

int64_t rows_of(const AttentionPlan& plan) { return static_cast<int64_t>(plan.key_row.size()); }

/// Rows [begin, end) of a tensor that has `rows`.
Doubles part(const Doubles& values, int64_t rows, int64_t begin, int64_t end) {
  const int64_t width = static_cast<int64_t>(values.size()) / rows;
  return {values.begin() + begin * width, values.begin() + end * width};
}

/// Forward and backward of one plan; backward reads what forward left.
class Attention {
 public:
  Attention(const Device& device, const AttentionPlan& plan, int64_t keys, AttentionShape shape)
      : device_(device),
        forward_(cases::attention(device.target, plan, keys, shape)),
        backward_(cases::attention_backward(device.target, plan, keys, shape)) {}
  void draw() {
    in = inputs_of(forward_);
    in["dout"] = in["q"];  // any of its shape
  }
  /// The inputs of an attention of all rows, of which this one asks `rows` and sees keys [first_key, ...).
  void take(const Values& all, int64_t all_rows, const std::vector<int32_t>& rows, int64_t all_keys, int64_t first_key,
            int64_t keys) {
    for (const char* name : {"q", "dout"}) {
      in[name].clear();
      for (const int32_t row : rows) {
        const Doubles one = part(all.at(name), all_rows, row, row + 1);
        in[name].insert(in[name].end(), one.begin(), one.end());
      }
    }
    for (const char* name : {"k", "v"}) in[name] = part(all.at(name), all_keys, first_key, first_key + keys);
  }
  Values run_forward() const { return run(*device_.ops, forward_, in); }
  Values run_both() const {
    Values got = run_forward(), back = in;
    back["o"] = got["o"], back["lse"] = got["lse"];
    got.merge(run(*device_.ops, backward_, back));
    return got;
  }
  Values in;

 private:
  const Device& device_;
  Case forward_, backward_;
};

std::vector<int32_t> count_from(int32_t begin, int32_t end) {
  std::vector<int32_t> rows;
  for (int32_t i = begin; i < end; ++i) rows.push_back(i);
  return rows;
}

/// Query `row` of a plan as a plan of its own, over the same keys.
AttentionPlan alone(const AttentionPlan& plan, size_t row) {
  AttentionPlan one;
  one.spans = {plan.spans[row]};
  one.ranges = plan.ranges;
  one.spans[0].query_begin = 0;
  one.spans[0].query_end = 1;
  one.spans[0].group = 0;
  one.key_row = {plan.key_row[row]};
  one.groups = 1;
  return one;
}

/// Queries of a plan that decodes, every `step`th, give the bits that they give alone.
void check_decoding(const Device& device, const AttentionPlan& plan, int64_t keys, AttentionShape shape,
                    int32_t step = 1) {
  Attention batch(device, plan, keys, shape);
  batch.draw();
  const Values all = batch.run_forward();
  const int64_t rows = rows_of(plan);
  for (int32_t row = 0; row < rows; row += step) {
    Attention one(device, alone(plan, static_cast<size_t>(row)), keys, shape);
    one.take(batch.in, rows, {row}, keys, 0, keys);
    const Values got = one.run_forward();
    for (const char* name : {"o", "lse"}) CHECK(same_bits(got.at(name), part(all.at(name), rows, row, row + 1)));
  }
}

}  // namespace

TEST("op/attention: very large scores stay finite, backward too") {
  for (const Device& device : devices()) {
    AttentionPlan plan;
    cases::add_sequence(plan, 70, true);
    Attention huge(device, plan, 70, {2, 2, 16});
    huge.draw();
    for (const char* name : {"q", "k"})
      for (double& x : huge.in[name]) x *= 4096;
    for (const auto& [name, values] : huge.run_both())
      for (const double x : values)
        CHECK(std::isfinite(x) && (name != "o" || std::abs(x) <= 1.001));  // a mean of [-1, 1]
  }
}

TEST("op/attention: a sequence has the same bits alone and in a batch") {
  for (const Device& device : devices()) {
    AttentionPlan batch, one;
    cases::add_sequence(batch, 7, true);
    cases::add_block(batch, 70, 3, 66);
    cases::add_sequence(batch, 65, false);
    cases::add_block(one, 70, 3, 66);
    const int64_t rows = rows_of(batch), begin = 7, end = begin + rows_of(one);
    Attention all(device, batch, rows, {2, 1, 32});
    all.draw();
    Attention own(device, one, end - begin, {2, 1, 32});
    own.take(all.in, rows, count_from(7, static_cast<int32_t>(end)), rows, begin, end - begin);
    const Values a = all.run_both(), b = own.run_both();
    for (const char* name : {"o", "lse", "dq", "dk", "dv"})
      CHECK(same_bits(b.at(name), part(a.at(name), rows, begin, end)));
  }
}

TEST("op/attention: a row has the same bits wherever it stands in its tile, and asked one at a time") {
  for (const Device& device : devices()) {
    AttentionPlan plan;
    cases::add_sequence(plan, 150, true);
    Attention all(device, plan, 150, {2, 1, 32});
    all.draw();
    const Values a = all.run_both();
    const auto check = [&](const std::vector<int32_t>& rows, bool backward) {
      Attention few(device, cases::restricted(plan, rows), 150, {2, 1, 32});
      few.take(all.in, 150, rows, 150, 0, 150);
      const Values f = backward ? few.run_both() : few.run_forward();
      const int64_t count = static_cast<int64_t>(rows.size());
      for (int64_t i = 0; i < count; ++i)
        for (const char* name : {"o", "lse", "dq"})
          if (f.contains(name))
            CHECK(same_bits(part(f.at(name), count, i, i + 1),
                            part(a.at(name), 150, rows[static_cast<size_t>(i)], rows[static_cast<size_t>(i)] + 1)));
    };
    check({0, 5, 63, 64, 100, 127, 128, 149}, true);
    for (const int32_t row : {0, 63, 64, 129}) check({row}, false);
  }
}

TEST("op/attention: a row of a tree has the bits that it has in its sequence alone") {
  const std::vector<cases::TreeNode> nodes = {{-1, 70}, {0, 9}, {1, 3}, {2, 1}, {2, 66}, {0, 65}, {5, 1}, {5, 40}};
  const int32_t before = 7;
  AttentionPlan tree;
  cases::add_sequence(tree, before, true);
  cases::add_tree(tree, nodes);
  const int64_t rows = rows_of(tree);
  std::vector<std::vector<int32_t>> paths;  // rows of each node's sequence
  int32_t next = before;
  for (const cases::TreeNode& node : nodes) {
    paths.push_back(node.parent < 0 ? std::vector<int32_t>() : paths[static_cast<size_t>(node.parent)]);
    for (int32_t i = 0; i < node.length; ++i) paths.back().push_back(next++);
  }
  for (const Device& device : devices()) {
    Attention all(device, tree, rows, {2, 1, 32});
    all.draw();
    const Values a = all.run_both();
    for (const std::vector<int32_t>& path : paths) {
      const int64_t length = static_cast<int64_t>(path.size());
      AttentionPlan sequence;
      cases::add_sequence(sequence, static_cast<int32_t>(length), true);
      Attention one(device, sequence, length, {2, 1, 32});
      for (const auto& [name, values] : all.in)
        for (const int32_t row : path) {
          const Doubles taken = part(values, rows, row, row + 1);
          one.in[name].insert(one.in[name].end(), taken.begin(), taken.end());
        }
      const Values b = one.run_both();
      for (const char* name : {"o", "lse", "dq"})
        for (int64_t i = 0; i < length; ++i)
          CHECK(same_bits(part(b.at(name), length, i, i + 1),
                          part(a.at(name), rows, path[static_cast<size_t>(i)], path[static_cast<size_t>(i)] + 1)));
    }
  }
}

TEST("op/attention: a decoded row has the same bits alone and in any batch") {
  for (const Device& device : devices())
    check_decoding(device, cases::decode_plan({600, 3, 513, 256}, 700), 4 * 700, {4, 2, 32});
}

TEST("op/attention: queries that decode have the same bits alone and beside others with their prefix") {
  for (const Device& device : devices())
    for (const AttentionShape shape : {AttentionShape{4, 2, 16}, {6, 1, 8}, {3, 3, 5}})
      check_decoding(device, cases::shared_prefixes(40), 75 + 400, shape, device.ops->is_gpu() ? 13 : 1);
}
