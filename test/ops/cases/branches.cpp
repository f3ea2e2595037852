// Several linears of one x. A branch is held against the reference of its own case (lora.cpp, matmul.cpp), dx against
// the sum of theirs. And SwiGLU of two, and back through the linear behind it.
#include <algorithm>
#include <cmath>

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

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double silu(double x) { return x * sigmoid(x); }
double silu_slope(double x) { return sigmoid(x) * (1 + x * (1 - sigmoid(x))); }

/// How far a tensor's elements may be from what was expected of it.
Doubles off(const Expected& e, DType type) {
  Doubles all = e.tolerance;
  for (size_t i = 0; i < all.size(); ++i)
    if (type == DType::bf16) all[i] += (std::abs(e.value[i]) + e.tolerance[i]) * 0x1p-8;
  return all;
}

/// silu(gate) * up, where these may be so far off themselves. The slope of silu is at most 1.1.
Expected gated(const Doubles& gate, const Doubles& up, const Doubles& gate_off = {}, const Doubles& up_off = {}) {
  Expected e{"product", {}, {}};
  for (size_t i = 0; i < gate.size(); ++i) e.value.push_back(silu(gate[i]) * up[i]);
  e.tolerance = within(e.value, 16);
  for (size_t i = 0; i < gate_off.size(); ++i)
    e.tolerance[i] += 1.1 * gate_off[i] * (std::abs(up[i]) + up_off[i]) + std::abs(silu(gate[i])) * up_off[i];
  return e;
}

/// Gate and up of as many outputs.
std::vector<Branches> gated_shapes(const Target& target) {
  std::vector<Branches> all = {
      {0, 24, {{16, 4}, {16, 4}}, 0, true},       {1, 96, {{72, 8}, {72, 8}}, 0, false},  // a token that decodes
      {5, 64, {{19, 16}, {19, 16}}, 0.25f, true}, {33, 70, {{11, 6}, {11, 6}}, 0, false},
      {21, 48, {{40, 0}, {40, 8}}, 0, true},      {40, 200, {{56, 136}, {56, 72}}, 0, false},
  };
  if (target.gpu) all.push_back({70, 72, {{25 * 64, 8}, {25 * 64, 0}}, 0, false});
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

Case cases::gated_branches(const Target& target, const Branches& s, bool keeps) {
  Case c = linear_branches(target, s, target.activation);
  c.name = (keeps ? "gated_branches " : "gated_branches, nothing kept, ") + described(s);
  const std::vector<int64_t> dims{s.tokens, s.branches[0].out};
  for (Argument& a : c.arguments)
    if (!keeps && (a.name == "y0" || a.name == "y1")) a.role = Argument::Role::workspace;
  c.arguments.push_back(output("product", target.activation, dims));
  c.call = [s, keeps](Ops& ops, Tensors& t) {
    const std::vector<LinearBranch> both = branches_of(ops, t, s, "y");
    ops.gated_branches(t["x"], both[0], both[1], t["product"], keeps);
  };
  c.reference = [linears = c.reference, type = target.activation, keeps](const Values& in, const Values& got) {
    std::vector<Expected> all = linears(in, got);
    if (keeps) {
      all.push_back(gated(got.at("y0"), got.at("y1")));
      return all;
    }
    Expected y[2];
    for (size_t i = 0; i < 2; ++i) {
      const auto at =
          std::find_if(all.begin(), all.end(), [&](const Expected& e) { return e.name == name_of("y", i); });
      y[i] = *at;
      all.erase(at);
    }
    all.push_back(gated(y[0].value, y[1].value, off(y[0], type), off(y[1], type)));
    return all;
  };
  if (c.alone) {
    Branches one = s;
    one.tokens = 1;
    c.alone = std::make_shared<Case>(gated_branches(target, one, keeps));
  }
  return c;
}

Case cases::gated_backward(const Target& target, Linear s, int64_t rank, float rate) {
  const DType type = target.activation;
  const Branches one{s.tokens, s.in, {{s.out, rank}}, rate, false};
  Case c = linear_branches_backward(target, one, type);
  c.name = "gated_backward " + described(one);
  std::erase_if(c.arguments, [](const Argument& a) { return a.name == "x" || a.name == "dx"; });
  const std::vector<int64_t> dims{s.tokens, s.in};
  c.arguments.push_back(both("gate", type, dims, -8, 8));
  c.arguments.push_back(both("up", type, dims, -2, 2));
  c.arguments.push_back(rank > 0 ? output("product", type, dims) : workspace("product", type, dims));
  c.arguments.push_back(workspace("dproduct", type, dims));
  c.call = [one](Ops& ops, Tensors& t) {
    ops.gated_backward(branch_of(ops, t, one, 0, "dy"), t["gate"], t["up"], t["product"], t["dproduct"]);
  };
  c.reference = [linear = c.reference, type](Values in, const Values& got) {
    const Doubles &gate = in.at("gate"), &up = in.at("up");
    std::vector<Expected> all;
    if (const auto product = got.find("product"); product != got.end()) {
      in["x"] = product->second;  // as the device has it for an operand
      all.push_back(gated(gate, up));
    }
    Expected to_gate{"gate", {}, {}}, to_up{"up", {}, {}};
    for (Expected& e : linear(in, got)) {
      if (e.name != "dx") {
        all.push_back(std::move(e));
        continue;
      }
      const Doubles dy_off = off(e, type);
      for (size_t i = 0; i < gate.size(); ++i) {
        const double slope = up[i] * silu_slope(gate[i]), direct = silu(gate[i]);
        to_gate.value.push_back(e.value[i] * slope), to_up.value.push_back(e.value[i] * direct);
        // gate * (1 - sigmoid) multiplies the error of the sigmoid by up to 8.
        to_gate.tolerance.push_back(dy_off[i] * std::abs(slope) + 64 * u * std::max(1.0, std::abs(e.value[i])));
        to_up.tolerance.push_back(dy_off[i] * std::abs(direct) + 16 * u * std::max(1.0, std::abs(e.value[i] * direct)));
      }
    }
    all.push_back(std::move(to_gate)), all.push_back(std::move(to_up));
    return all;
  };
  return c;
}

OPERATION(gated_branches) {
  std::vector<Case> all;
  for (const Branches& s : gated_shapes(target))
    for (const bool keeps : {true, false}) all.push_back(cases::gated_branches(target, s, keeps));
  return all;
}

OPERATION(gated_backward) {
  std::vector<Case> all;
  const auto add = [&](const cases::Linear& down, int64_t rank, float rate) {
    all.push_back(cases::gated_backward(target, down, rank, rate));
  };
  add({0, 16, 24}, 8, 0);
  add({1, 24, 72}, 8, 0);
  add({33, 70, 11}, 6, 0.25f);
  add({5, 64, 40}, 16, 0.25f);
  add({40, 56, 136}, 0, 0);
  add({70, 200, 72}, 136, 0.1f);
  if (target.gpu) add({70, 24, 50 * 128 - 8}, 8, 0);
  return all;
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
