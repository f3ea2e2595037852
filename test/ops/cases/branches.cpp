// Several linears of one x. A branch is held against the reference of its own case (lora.cpp, matmul.cpp), dx against
// the sum of theirs.
#include "ops/cases/cases.h"

namespace fire::test {

using cases::Branches;
using cases::Dx;

namespace {

/// x, dx and what decides the masks of its rows are of all branches.
std::string name_of(const std::string& name, size_t branch) {
  return name == "x" || name == "dx" || name == "row_keys" ? name : name + std::to_string(branch);
}

Dropout dropout_of(const Branches& s, size_t branch) {
  return {s.rate, 7, s.first_module + static_cast<uint32_t>(branch)};
}

Case forward_of(const Target& target, const Branches& s, size_t i, DType y_type) {
  const cases::Linear linear{s.tokens, s.branches[i].out, s.in};
  if (s.branches[i].rank == 0) return cases::linear(target, linear, s.bias, false, y_type);
  return cases::lora_linear(target, linear, s.branches[i].rank, dropout_of(s, i), s.bias, false, y_type);
}

Case backward_of(const Target& target, const Branches& s, size_t i, DType dx_type) {
  const cases::Linear linear{s.tokens, s.branches[i].out, s.in};
  if (s.branches[i].rank == 0) return cases::linear_backward(target, linear, target.activation, dx_type, false);
  return cases::lora_linear_backward(target, linear, s.branches[i].rank, dropout_of(s, i), Dx::overwritten, dx_type);
}

LinearBranch branch_of(Ops& ops, Tensors& t, const Branches& s, size_t i, const char* y) {
  const auto of = [&](const char* name) { return t[name_of(name, i)]; };
  LinearBranch branch{.w = of("w"), .bias = of("bias"), .y = of(y)};
  if (s.branches[i].rank == 0) return branch;
  branch.lora = {of("a"), of("b"), cases::lora_scale};
  branch.dropout = dropout_of(s, i);
  if (s.rate > 0) branch.dropout.row_keys = reinterpret_cast<const uint32_t*>(t["row_keys"].i32());
  branch.mask = of("mask"), branch.h = of("h"), branch.dh = of("dh"), branch.da = of("da"), branch.db = of("db");
  if (branch.mask && ops.is_gpu()) ops.draw_mask(branch.dropout, branch.mask);
  return branch;
}

/// `y`: what holds the results, or in backward their gradients.
std::vector<LinearBranch> branches_of(Ops& ops, Tensors& t, const Branches& s, const char* y) {
  std::vector<LinearBranch> branches;
  for (size_t i = 0; i < s.branches.size(); ++i) branches.push_back(branch_of(ops, t, s, i, y));
  return branches;
}

/// The cases of all branches as one.
Case together(std::string name, const std::vector<Case>& parts) {
  Case c{std::move(name), {}, {}};
  for (size_t i = 0; i < parts.size(); ++i)
    for (Argument a : parts[i].arguments) {
      a.name = name_of(a.name, i);
      const auto same = [&](const Argument& other) { return other.name == a.name; };
      if (std::none_of(c.arguments.begin(), c.arguments.end(), same)) c.arguments.push_back(a);
    }
  const auto x = std::find_if(c.arguments.begin(), c.arguments.end(), [](const Argument& a) { return a.name == "x"; });
  if (x != c.arguments.end()) std::rotate(c.arguments.begin(), x, x + 1);
  c.reference = [parts](const Values& in, const Values& got) {
    std::vector<Expected> all;
    Expected dx{"dx", {}, {}};
    bool summed = false;
    for (size_t i = 0; i < parts.size(); ++i) {
      Values own_in, own_got;
      for (const Argument& a : parts[i].arguments) {
        if (const auto v = in.find(name_of(a.name, i)); v != in.end()) own_in[a.name] = v->second;
        if (const auto v = got.find(name_of(a.name, i)); v != got.end()) own_got[a.name] = v->second;
      }
      for (Expected& e : parts[i].reference(own_in, own_got)) {
        if (e.name == "dx") {
          summed = true;
          dx.value.resize(e.value.size()), dx.tolerance.resize(e.value.size());
          for (size_t at = 0; at < e.value.size(); ++at)
            dx.value[at] += e.value[at], dx.tolerance[at] += e.tolerance[at];
        } else {
          e.name = name_of(e.name, i);
          all.push_back(std::move(e));
        }
      }
    }
    if (summed) all.push_back(std::move(dx));
    return all;
  };
  c.shifts = {};
  return c;
}

std::string described(const Branches& s) {
  std::string text = by({s.tokens, s.in});
  for (const auto& [out, rank] : s.branches) text += " to " + by({out, rank});
  return s.rate > 0 ? text + ", dropout" : text;
}

std::vector<Branches> shapes(const Target& target) {
  std::vector<Branches> all = {
      {0, 24, {{16, 4}, {8, 4}}, 0, true},
      {1, 16, {{7, 0}}, 0, false},
      {1, 96, {{128, 8}, {32, 8}, {32, 8}}, 0, true},  // a token that decodes
      {5, 64, {{48, 16}, {16, 16}, {16, 16}}, 0.25f, false},
      {33, 70, {{11, 6}, {130, 0}, {1, 6}}, 0, true},    // not all are adapted, ragged
      {65, 40, {{3, 8}, {64, 8}, {200, 40}}, 0, false},  // of different ranks
      {21, 48, {{40, 0}, {24, 8}, {16, 3}}, 0, true},    // the first not adapted, the last of rows not aligned
      {70, 136, {{72, 128}, {24, 128}, {24, 128}}, 0.1f, true},
      {40, 72, {{56, 0}, {56, 0}}, 0, true},
      {18, 48, {{8, 8}, {8, 8}, {8, 8}, {8, 8}}, 0, false},  // more than a launch takes
  };
  if (target.gpu) {
    // In tiles of 64 and of 128, one branch narrower than a tile, the ring more than once round.
    all.push_back({65, 40, {{32 * 64 - 3, 8}, {16 * 64, 8}, {8, 8}}, 0, true});
    all.push_back({129, 200, {{31 * 128, 72}, {9 * 128 - 3, 72}, {9 * 128, 72}}, 0, true});
    all.push_back({65, 48 * 64 + 8, {{24, 16}, {72, 16}, {40, 0}}, 0, false});
    all.push_back({129, 48 * 128, {{136, 72}, {40, 8}, {200, 72}}, 0, false});
    all.push_back({65, 40, {{48 * 64, 8}, {48 * 64, 8}}, 0.25f, false});
    all.push_back({3, 33000, {{24, 8}, {16, 8}}, 0, false});  // in parts: forward one by one
  }
  return all;
}

}  // namespace

Case cases::linear_branches(const Target& target, const Branches& s, DType y_type) {
  std::vector<Case> parts;
  for (size_t i = 0; i < s.branches.size(); ++i) parts.push_back(forward_of(target, s, i, y_type));
  Case c = together("linear_branches " + described(s), parts);
  c.call = [s](Ops& ops, Tensors& t) { ops.linear_branches(t["x"], branches_of(ops, t, s, "y")); };
  if (s.tokens > 1 && s.tokens < 100 && s.rate == 0) {
    Branches one = s;
    one.tokens = 1;
    c.alone = std::make_shared<Case>(linear_branches(target, one, y_type));
  }
  return c;
}

Case cases::linear_branches_backward(const Target& target, const Branches& s, DType dx_type) {
  std::vector<Case> parts;
  for (size_t i = 0; i < s.branches.size(); ++i) parts.push_back(backward_of(target, s, i, dx_type));
  Case c = together("linear_branches_backward " + described(s), parts);
  c.call = [s](Ops& ops, Tensors& t) { ops.linear_branches_backward(t["x"], branches_of(ops, t, s, "dy"), t["dx"]); };
  return c;
}

OPERATION(linear_branches) {
  std::vector<Case> all;
  for (const Branches& s : shapes(target)) all.push_back(cases::linear_branches(target, s, target.activation));
  all.push_back(cases::linear_branches(target, {37, 64, {{48, 8}, {16, 8}}, 0, true}, DType::f32));
  return all;
}

OPERATION(linear_branches_backward) {
  std::vector<Case> all;
  for (const Branches& s : shapes(target)) {
    // In bf16 branch after branch is rounded, which no bound of one sum allows for: under dropout, and where a launch
    // does not take them all.
    const bool in_turn = s.rate > 0 || s.branches.size() > 3;
    all.push_back(cases::linear_branches_backward(target, s, in_turn ? DType::f32 : target.activation));
  }
  return all;
}

}  // namespace fire::test
