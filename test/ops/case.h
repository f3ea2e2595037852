// A case of one operation of ops.h: its tensors, how it is called, what float64 says of the results. A case knows no
// device: the CPU's tests, the emulator and a GPU run the same cases (run.h), and bench/gpu times the same calls.
#pragma once

#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace fire::test {

/// Every type that a tensor may have is exact in float64.
using Doubles = std::vector<double>;

/// What a device makes of the tensors it is given.
struct Target {
  DType activation;  ///< of activations and their gradients
  DType operand;     ///< what operands of matrix products are rounded to
  DType matrix;      ///< of frozen matrices after `adopt`
  DType vector;      ///< of norm weights and biases after `adopt`
  bool gpu;          ///< shapes for each tile of its kernels
  bool large;        ///< shapes as models have them: a real GPU

  /// For operations that know no other type: everything is f32.
  bool plain() const { return operand == DType::f32 && matrix == DType::f32; }
  /// Of rows that are moved and added.
  std::vector<DType> row_types() const;
};

struct Argument {
  enum class Role : uint8_t { input, output, both, workspace };
  std::string name;
  Role role;
  DType type;
  std::vector<int64_t> dims;
  /// Random values of inputs are uniform in [low, high).
  double low = -1, high = 1;
  /// Taken instead of random ones.
  Doubles values = {};

  int64_t size() const;
  bool read() const { return role == Role::input || role == Role::both; }
  bool written() const { return role == Role::output || role == Role::both; }
};

inline Argument input(std::string name, DType type, std::vector<int64_t> dims, double low = -1, double high = 1) {
  return {std::move(name), Argument::Role::input, type, std::move(dims), low, high};
}
inline Argument indices(std::string name, std::vector<int64_t> dims, const std::vector<int32_t>& values) {
  return {std::move(name), Argument::Role::input, DType::i32, std::move(dims), 0, 0, {values.begin(), values.end()}};
}
/// NaN before the call, so that an element left out shows.
inline Argument output(std::string name, DType type, std::vector<int64_t> dims) {
  return {std::move(name), Argument::Role::output, type, std::move(dims)};
}
/// Changed in place, or added to.
inline Argument both(std::string name, DType type, std::vector<int64_t> dims, double low = -1, double high = 1) {
  return {std::move(name), Argument::Role::both, type, std::move(dims), low, high};
}
/// NaN before the call, and whatever after it.
inline Argument workspace(std::string name, DType type, std::vector<int64_t> dims) {
  return {std::move(name), Argument::Role::workspace, type, std::move(dims)};
}

/// A case's tensors by name, on the host.
using Values = std::map<std::string, Doubles>;

/// A case's tensors by name, on a device.
struct Tensors {
  std::map<std::string, Tensor> by_name;
  PreparedPlan plan;
  /// What an operation gives to the host. In values: the tensor `returned`.
  Doubles returned = {};
  /// Empty where the case has no such argument.
  Tensor operator[](const std::string& name) const {
    const auto found = by_name.find(name);
    return found == by_name.end() ? Tensor() : found->second;
  }
};

/// What float64 says of an output.
struct Expected {
  std::string name;
  Doubles value;
  /// How far each element may be from it before it is rounded to the output's type; one number stands for all.
  Doubles tolerance;
  /// The most that ||got - value|| / ||value|| may be, where not every element can be at its own bound.
  double relative = INFINITY;
  /// What is compared where it is not the output `name` itself.
  Doubles got = {};
};

struct Case {
  std::string name;
  std::vector<Argument> arguments;
  std::function<void(Ops&, Tensors&)> call;
  /// From the inputs, and, where an operation's results are its operands too, from what the device gave.
  std::function<std::vector<Expected>(const Values& in, const Values& got)> reference = {};
  /// Changes random inputs, or makes those that follow from others.
  std::function<void(Values& in)> complete = {};
  std::shared_ptr<const AttentionPlan> plan = {};
  /// Ways to run it in place, as (output, input whose memory it takes).
  std::vector<std::vector<std::pair<std::string, std::string>>> in_place = {};
  /// The same operation on one row, for operations whose every row stands for itself.
  std::shared_ptr<const Case> alone = {};
  /// Elements behind an aligned address where it must give the same bits.
  std::vector<int64_t> shifts = {1};

  /// Every input read once, every output written once.
  double bytes() const;
};

/// "3x64".
std::string by(const std::vector<int64_t>& dims);

/// Rounding unit of f32.
constexpr double u = 0x1p-24;
/// `units` of it, of each value or of 1, whatever is larger.
Doubles within(const Doubles& values, double units);
/// Values as a tensor of this type holds them.
Doubles rounded(Doubles values, DType type);
/// At most `most` of the indices below `count`, evenly apart, the first and the last among them.
std::vector<int64_t> sampled(int64_t count, int64_t most = 64);

using CaseList = std::vector<Case> (*)(const Target&);
struct Operation {
  const char* name;
  CaseList cases;
};
/// All that OPERATION has declared.
std::vector<Operation>& operations();
bool add_operation(const char* name, CaseList cases);

/// OPERATION(name) { return all cases for `target`; } at the start of a line, where cmake/tests.cmake reads the name.
#define OPERATION(name)                                                                   \
  static std::vector<Case> list_of_##name(const Target&);                                 \
  [[maybe_unused]] static const bool added_##name = add_operation(#name, list_of_##name); \
  static std::vector<Case> list_of_##name([[maybe_unused]] const Target& target)

}  // namespace fire::test
