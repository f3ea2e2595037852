// Runs cases on a device and holds them against their references.
#pragma once

#include "check.h"
#include "ops/case.h"

namespace fire::test {

/// A device under test, and others that must give its very bits (a CPU with more threads, other kernels).
struct Device {
  Target target;
  std::unique_ptr<Ops> ops;
  std::vector<std::unique_ptr<Ops>> same;
  /// Tensors that begin so many elements behind an aligned address have the bits of aligned ones: 16 bytes of them
  /// where a GPU has other tensor cores for rows in such pieces (cuda/gemm.h), which the emulator's do not differ from.
  int64_t step = 1;
};
/// What this program tests: a CPU, or a GPU or its emulator, in f32 (the first) and in bf16.
const std::vector<Device>& devices();
inline Ops& plain_device() { return *devices()[0].ops; }

/// Whether the GPU is that of test/simt.
bool is_emulated(const Ops& ops);

/// Whether shapes are as models have them: on a real GPU, unless FIRE_TEST_SMALL is set because compute-sanitizer slows
/// everything down or a first answer is wanted soon; elsewhere where FIRE_TEST_LARGE is set, which holds the large
/// cases themselves against a CPU.
bool large(const Ops& ops);

/// A tensor in device memory that begins `shift` elements behind an aligned address and ends where its allocation ends,
/// so that a step past its end is one out of the allocation. Floats are NaN until they are set.
class Placed {
 public:
  Placed(Ops& ops, DType type, const std::vector<int64_t>& dims, int64_t shift = 0);
  template <class T>
  Placed(Ops& ops, const std::vector<T>& values, DType type, const std::vector<int64_t>& dims, int64_t shift = 0)
      : Placed(ops, type, dims, shift) {
    set({values.begin(), values.end()});
  }
  ~Placed();
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;

  operator Tensor() const { return tensor_; }
  Tensor tensor() const { return tensor_; }
  /// Rounded to the tensor's type.
  void set(const Doubles& values);
  /// Also checks that nothing was written in front.
  Doubles values() const;
  std::vector<float> get() const;

 private:
  static constexpr double guard = -77;
  Ops& ops_;
  int64_t shift_;
  Tensor whole_, tensor_;
};

/// Values of any tensor.
Doubles values_of(Ops& ops, Tensor x);

/// A case's inputs: counter-based random numbers keyed by the names of case and argument, as their types hold them.
Values inputs_of(const Case& c);

struct Placement {
  int64_t shift = 0;
  /// Outputs that take the memory of inputs.
  std::vector<std::pair<std::string, std::string>> in_place = {};
};
/// What a device gives: all outputs, and what came to the host as `returned`. Checks that the inputs stay as they are.
Values run(Ops& ops, const Case& c, const Values& in, const Placement& placement = {});
inline Values run(Ops& ops, const Case& c) { return run(ops, c, inputs_of(c)); }

/// Row `row` of `rows` of a case's inputs, for its `alone`.
Values row_of(const Case& c, const Values& in, int64_t row, int64_t rows);

bool same_bits(const Doubles& a, const Doubles& b);
bool same_bits(const Values& a, const Values& b);
/// Every output within its tolerance.
void check_close(const Case& c, const Values& in, const Values& got);

}  // namespace fire::test
