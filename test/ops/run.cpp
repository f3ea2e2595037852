// The tests `op/<operation>`: every case of it on the device that FIRE_TEST_DEVICE names ("cpu" or "cuda").
#include "ops/run.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <sstream>

#include "engine/device.h"
#include "tensor/rng.h"
#include "variable.h"

namespace fire::test {
namespace {

template <class T>
std::vector<T> narrowed(const Doubles& values) {
  return {values.begin(), values.end()};
}

void write(Ops& ops, Tensor x, const Doubles& values) {
  if (static_cast<int64_t>(values.size()) != x.size())
    throw Error(Code::internal, std::to_string(values.size()) + " values for " + x.describe());
  if (x.dtype() == DType::f64) return ops.upload(values.data(), x);
  if (x.dtype() == DType::i32) return ops.upload(narrowed<int32_t>(values).data(), x);
  if (x.dtype() == DType::f32) return ops.upload(narrowed<float>(values).data(), x);
  std::vector<bf16> narrow(values.size());
  for (size_t i = 0; i < values.size(); ++i) narrow[i] = to_bf16(static_cast<float>(values[i]));
  ops.upload(narrow.data(), x);
}

uint64_t key_of(const std::string& text) {  // FNV-1a
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

Doubles random_values(const Argument& a, uint64_t key) {
  Doubles values(static_cast<size_t>(a.size()), a.low);
  if (a.low == a.high) return values;
  for (size_t i = 0; i < values.size(); i += 4) {
    const Philox4 bits = philox(key, {static_cast<uint32_t>(i / 4), 0, 0, 0});
    for (size_t j = i; j < std::min(i + 4, values.size()); ++j)
      values[j] = a.low + (a.high - a.low) * static_cast<double>(uniform24(bits[j - i]));
  }
  return values;
}

void complain(const Case& c, const std::string& what) { check::fail("test/ops", 0, c.name + ": " + what); }

void expect_same(const Case& c, const std::string& how, const Values& got, const Values& want) {
  check::count_check();
  if (!same_bits(got, want)) complain(c, "other bits " + how);
}

/// One output; false after the first complaint.
bool is_close(const Case& c, const Expected& e, const Doubles& got, DType type) {
  check::count_check();
  const auto fail = [&](const std::string& what) { return complain(c, e.name + what), false; };
  if (got.size() != e.value.size()) return fail(" has " + std::to_string(got.size()) + " elements");
  double difference = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double value = e.value[i], allowed = e.tolerance[e.tolerance.size() == 1 ? 0 : i];
    if (got[i] == value || (std::isnan(got[i]) && std::isnan(value))) continue;
    // bf16 has 8 bits: half a unit in the last place is 2^-8 of the number that is rounded.
    const double bound = allowed + (type == DType::bf16 ? (std::abs(value) + allowed) * 0x1p-8 : 0);
    if (!(std::abs(got[i] - value) <= bound)) {
      std::ostringstream text;
      text.precision(9);
      text << "[" << i << "] is " << got[i] << ", not " << value << " +- " << bound;
      return fail(text.str());
    }
    difference += (got[i] - value) * (got[i] - value);
  }
  if (std::isinf(e.relative)) return true;
  for (const double x : e.value) size += std::isnan(x) ? 0 : x * x;
  if (difference <= e.relative * e.relative * size) return true;
  std::ostringstream text;
  text << " is off by " << std::sqrt(difference / size) << " of its norm, allowed " << e.relative;
  return fail(text.str());
}

/// What a GPU of another generation runs. In the emulator the tensor cores of all have one order of sums.
std::vector<std::unique_ptr<Ops>> with_other_kernels(const Ops& ops, const DeviceSpec& spec) {
  std::vector<std::unique_ptr<Ops>> found;
  if (spec.dtype != ComputeType::bf16 || !is_emulated(ops) || ops.isa_name() != "sm_90a") return found;
  const Variable portable("FIRE_CUDA_ISA", "sm_80");
  found.push_back(open_device(spec));
  return found;
}

std::vector<Device> open_devices() {
  std::vector<Device> found;
  DeviceSpec spec{DeviceKind::cpu, 0, ComputeType::f32, 1, GemmBackend::automatic, false, PackWeights::off, 0};
  set_device(spec, FIRE_TEST_DEVICE);
  for (const ComputeType compute : {ComputeType::f32, ComputeType::bf16}) {
    const DType operand = compute == ComputeType::bf16 ? DType::bf16 : DType::f32;
    spec.dtype = compute;
    spec.threads = 1;
    Device d{{}, open_device(spec), {}};
    const bool gpu = d.ops->is_gpu();
    d.same = with_other_kernels(*d.ops, spec);
    if (d.ops->isa_name() == "sm_90a" && !is_emulated(*d.ops)) d.step = 8;
    d.target = {d.ops->activation_type(), operand, operand, gpu ? DType::f32 : operand, gpu, large(*d.ops)};
    for (spec.threads = 2; spec.threads <= 3 && !gpu; ++spec.threads) d.same.push_back(open_device(spec));
    found.push_back(std::move(d));
  }
  return found;
}

/// A CPU takes weights as they lie in the file, in f32 mode too: the cases that have some.
std::vector<Case> with_stored_weights(const Device& device, CaseList cases) {
  if (device.target.gpu || !device.target.plain()) return {};
  Target stored = device.target;
  stored.matrix = stored.vector = DType::bf16;
  std::vector<Case> found = cases(stored);
  std::erase_if(found, [](const Case& c) {
    return std::none_of(c.arguments.begin(), c.arguments.end(), [](const auto& a) { return a.type == DType::bf16; });
  });
  return found;
}

void check_case(const Device& device, const Case& c) {
  Ops& ops = *device.ops;
  const Values in = inputs_of(c), got = run(ops, c, in);
  check_close(c, in, got);
  for (const int64_t shift : c.shifts)
    expect_same(c, std::to_string(shift * device.step) + " elements on", run(ops, c, in, {shift * device.step, {}}),
                got);
  for (const auto& other : device.same)
    expect_same(c, "with " + other->isa_name() + ", threads: " + std::to_string(other->threads()), run(*other, c, in),
                got);
  for (const auto& pairs : c.in_place) expect_same(c, "in place", run(ops, c, in, {0, pairs}), got);
  if (!c.alone) return;
  const int64_t rows = c.arguments[0].size() / std::max<int64_t>(1, c.alone->arguments[0].size());
  for (const int64_t row : {rows / 2, rows - 1}) {
    const Values one = run(ops, *c.alone, row_of(*c.alone, in, row, rows), {row % 2 * device.step, {}});
    expect_same(c, "in row " + std::to_string(row) + " alone", one, row_of(*c.alone, got, row, rows));
  }
}

void register_operations() {
  for (const Operation& operation : operations())
    check::add_test("op/" + std::string(operation.name) + ": cases against float64", [&operation] {
      for (const Device& device : devices()) {
        for (const Case& c : operation.cases(device.target)) check_case(device, c);
        for (const Case& c : with_stored_weights(device, operation.cases)) check_case(device, c);
      }
    });
}
[[maybe_unused]] const bool registered = check::at_start(register_operations);

}  // namespace

const std::vector<Device>& devices() {
  static const std::vector<Device> all = open_devices();
  return all;
}

bool is_emulated(const Ops& ops) { return ops.is_gpu() && ops.device_name().find("simt") != std::string::npos; }

bool large(const Ops& ops) {
  const bool real_gpu = ops.is_gpu() && !is_emulated(ops);
  const bool otherwise = std::getenv(real_gpu ? "FIRE_TEST_SMALL" : "FIRE_TEST_LARGE") != nullptr;
  return real_gpu != otherwise;
}

Placed::Placed(Ops& ops, DType type, const std::vector<int64_t>& dims, int64_t shift) : ops_(ops), shift_(shift) {
  tensor_ = Tensor::with_dims(nullptr, type, dims);
  whole_ = Tensor(nullptr, type, {shift + tensor_.size()});
  whole_ = Tensor(ops.allocate(std::max<size_t>(whole_.bytes(), 1)), type, {whole_.size()});
  tensor_ = Tensor::with_dims(whole_.slice(shift, whole_.size()).data(), type, dims);
  if (type != DType::i32) set(Doubles(static_cast<size_t>(tensor_.size()), std::numeric_limits<double>::quiet_NaN()));
}

Placed::~Placed() { ops_.release(whole_.data(), std::max<size_t>(whole_.bytes(), 1)); }

void Placed::set(const Doubles& values) {
  Doubles all(static_cast<size_t>(shift_), guard);
  all.insert(all.end(), values.begin(), values.end());
  write(ops_, whole_, all);
}

Doubles Placed::values() const {
  const Doubles all = values_of(ops_, whole_);
  for (int64_t i = 0; i < shift_; ++i) CHECK(all[static_cast<size_t>(i)] == guard);
  return {all.begin() + shift_, all.end()};
}

std::vector<float> Placed::get() const { return narrowed<float>(values()); }

Doubles values_of(Ops& ops, Tensor x) {
  const size_t size = static_cast<size_t>(x.size());
  if (x.dtype() == DType::f32 || x.dtype() == DType::bf16) {
    const std::vector<float> values = ops.download_f32(x);
    return {values.begin(), values.end()};
  }
  Doubles wide(size);
  if (x.dtype() == DType::f64) return ops.download(x, wide.data()), wide;
  std::vector<int32_t> ids(size);
  ops.download(x, ids.data());
  return {ids.begin(), ids.end()};
}

Values inputs_of(const Case& c) {
  Values in;
  for (const Argument& a : c.arguments)
    if (a.read()) in[a.name] = a.values.empty() ? random_values(a, key_of(c.name + "/" + a.name)) : a.values;
  const auto round = [&] {
    for (const Argument& a : c.arguments)
      if (a.read() && a.type != DType::i32) in[a.name] = rounded(std::move(in[a.name]), a.type);
  };
  round();
  if (c.complete) {
    c.complete(in);
    round();
  }
  return in;
}

Values run(Ops& ops, const Case& c, const Values& in, const Placement& placement) {
  std::map<std::string, std::unique_ptr<Placed>> memory;
  std::map<std::string, std::string> shared(placement.in_place.begin(), placement.in_place.end());
  Tensors tensors;
  for (const Argument& a : c.arguments) {
    if (shared.contains(a.name)) continue;
    auto& placed = memory[a.name] = std::make_unique<Placed>(ops, a.type, a.dims, placement.shift);
    if (a.read()) placed->set(in.at(a.name));
    tensors.by_name[a.name] = *placed;
  }
  for (const auto& [output, taken] : shared) tensors.by_name[output] = tensors[taken];
  Arena arena(ops.arena_source(), size_t{1} << 16);
  if (c.plan) tensors.plan = ops.prepare(*c.plan, arena);
  c.call(ops, tensors);

  Values got;
  if (!tensors.returned.empty()) got["returned"] = tensors.returned;
  for (const Argument& a : c.arguments) {
    const bool taken = std::any_of(shared.begin(), shared.end(), [&](const auto& s) { return s.second == a.name; });
    if (a.written()) got[a.name] = memory[shared.contains(a.name) ? shared[a.name] : a.name]->values();
    if (!a.read() || a.written() || taken) continue;
    check::count_check();
    if (!same_bits(memory[a.name]->values(), in.at(a.name))) complain(c, "changed its input " + a.name);
  }
  return got;
}

Values row_of(const Case& alone, const Values& all, int64_t row, int64_t rows) {
  Values part;
  for (const Argument& a : alone.arguments) {
    const auto found = all.find(a.name);
    if (found == all.end()) continue;
    // Tensors shorter than all rows serve several of them each (cos and sin all heads of a token), weights all.
    const int64_t size = a.size(), count = size == 0 ? 0 : static_cast<int64_t>(found->second.size()) / size;
    const auto begin = found->second.begin() + row * count / rows * size;
    part[a.name] = {begin, begin + size};
  }
  return part;
}

bool same_bits(const Doubles& a, const Doubles& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

bool same_bits(const Values& a, const Values& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](const auto& x, const auto& y) {
           return x.first == y.first && same_bits(x.second, y.second);
         });
}

void check_close(const Case& c, const Values& in, const Values& got) {
  const std::vector<Expected> expected = c.reference(in, got);
  for (const auto& [name, values] : got) {
    const bool compared = std::any_of(expected.begin(), expected.end(), [&](const auto& e) { return e.name == name; });
    if (!compared) complain(c, "nothing is said of " + name);
  }
  for (const Expected& e : expected) {
    const auto argument =
        std::find_if(c.arguments.begin(), c.arguments.end(), [&](const Argument& a) { return a.name == e.name; });
    const DType type = argument == c.arguments.end() ? DType::f64 : argument->type;
    if (!is_close(c, e, e.got.empty() && got.contains(e.name) ? got.at(e.name) : e.got, type)) return;
  }
}

}  // namespace fire::test
