// What each instruction of cuda/ptx.cuh answers, lane by lane, for fixed inputs; on Hopper those of cuda/hopper.cuh
// too. Built with nvcc it asks a GPU, built for the emulator it asks the emulator: a file that a GPU wrote is what the
// emulator is held against from then on.
//
//   wrapper_goldens --out FILE      writes the answers of this device
//   wrapper_goldens --check FILE    compares them with a file; the last line is `N passed, N failed`
#include <cmath>
#include <cstdio>
#include <exception>
#include <fstream>
#include <map>
#include <sstream>

#include "test/gpu/hopper_goldens.cuh"

namespace fire::cuda::goldens {
namespace {

constexpr unsigned lanes = 32;

// --- kernels: one warp; `in` and `out` have as many words a lane as the case says
// ---------------------------------------

/// Rows of 8x8 matrices 48 bytes apart in shared memory, and in no simple order.
constexpr unsigned row_words = 12;

template <bool Transposed>
__global__ void __launch_bounds__(32) ldmatrix_kernel(const uint32_t* in, uint32_t* out) {
  gpu::begin_kernel();
  SHARED(uint4, rows, 32 * row_words / 4);
  uint32_t* const words = reinterpret_cast<uint32_t*>(rows);
  const unsigned lane = threadIdx.x;
  for (unsigned i = 0; i < row_words; ++i) words[lane * row_words + i] = in[lane * row_words + i];
  __syncthreads();
  uint32_t r[4];
  const uint32_t* const row = words + (lane * 5 + 3) % 32 * row_words;
  if (Transposed) {
    ptx::ldmatrix_x4_trans(r, row);
  } else {
    ptx::ldmatrix_x4(r, row);
  }
  for (unsigned i = 0; i < 4; ++i) out[lane * 4 + i] = r[i];
}

/// A lane brings its registers: four of A, two of B, four sums.
__global__ void __launch_bounds__(32) mma_kernel(const uint32_t* in, uint32_t* out) {
  gpu::begin_kernel();
  const uint32_t* const mine = in + threadIdx.x * 10;
  const uint32_t a[4] = {mine[0], mine[1], mine[2], mine[3]};
  float d[4];
  for (unsigned i = 0; i < 4; ++i) d[i] = __uint_as_float(mine[6 + i]);
  ptx::mma_bf16(d, a, mine[4], mine[5]);
  for (unsigned i = 0; i < 4; ++i) out[threadIdx.x * 4 + i] = __float_as_uint(d[i]);
}

/// Two groups of copies over memory that holds something else; every third copy is not valid.
__global__ void __launch_bounds__(32) cp_async_kernel(const uint32_t* in, uint32_t* out) {
  gpu::begin_kernel();
  SHARED(uint4, first, 32);
  SHARED(uint4, second, 32);
  const unsigned lane = threadIdx.x;
  first[lane] = make_uint4(0xabababab, 0xabababab, 0xabababab, 0xabababab);
  second[lane] = make_uint4(0xcdcdcdcd, 0xcdcdcdcd, 0xcdcdcdcd, 0xcdcdcdcd);
  __syncthreads();
  ptx::cp_async_16(&first[lane], in + lane * 8, lane % 3 != 0);
  ptx::cp_async_commit();
  ptx::cp_async_16(&second[lane], in + lane * 8 + 4, lane % 3 != 1);
  ptx::cp_async_commit();
  ptx::cp_async_wait<1>();
  __syncthreads();
  const uint4 a = first[(lane + 7) % 32];
  ptx::cp_async_wait<0>();
  __syncthreads();
  const uint4 b = second[(lane + 9) % 32];
  const uint32_t words[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
  for (unsigned i = 0; i < 8; ++i) out[lane * 8 + i] = words[i];
}

__global__ void __launch_bounds__(32) pack_kernel(const uint32_t* in, uint32_t* out) {
  gpu::begin_kernel();
  const uint32_t* const mine = in + threadIdx.x * 2;
  out[threadIdx.x] = ptx::pack_bf16x2(__uint_as_float(mine[0]), __uint_as_float(mine[1]));
}

template <bool Power>
__global__ void __launch_bounds__(32) approximation_kernel(const uint32_t* in, uint32_t* out) {
  gpu::begin_kernel();
  const float x = __uint_as_float(in[threadIdx.x]);
  out[threadIdx.x] = __float_as_uint(Power ? ptx::exp2_approx(x) : ptx::reciprocal_approx(x));
}

// --- inputs
// -----------------------------------------------------------------------------------------------------------

Words mma_input(float (*draw)(uint32_t), uint32_t first) {
  Words words;
  for (unsigned lane = 0; lane < lanes; ++lane)
    for (unsigned i = 0; i < 10; ++i) {
      const float low = draw(noise(first++)), high = draw(noise(first++));
      words.push_back(i < 6 ? bits(low) >> 16 | (bits(high) & 0xffff0000u) : bits(low));
    }
  return words;
}

/// The integers with an infinity in row 1 of A, a NaN in column 2 of B and an infinity among the sums.
Words mma_special() {
  Words words = mma_input(small_integer, 9000);
  words[4 * 10] = (words[4 * 10] & 0xffff0000u) | 0x7f80u;
  words[8 * 10 + 4] = (words[8 * 10 + 4] & 0xffff0000u) | 0x7fc0u;
  words[20 * 10 + 6] = 0xff800000u;
  return words;
}

/// Ties to either side, the largest finite numbers, subnormals, infinities, NaNs, and noise.
Words pack_input() {
  Words words = noise_words(2 * lanes, 5000);
  const uint32_t chosen[] = {0x00000000, 0x80000000, 0x3f808000, 0x3f818000, 0x3f807fff, 0x3f808001,
                             0xbf808000, 0xbf818000, 0x7f7fffff, 0xff7fffff, 0x7f7f7fff, 0x7f7f8000,
                             0x00000001, 0x00008000, 0x00018000, 0x007fffff, 0x7f800000, 0xff800000,
                             0x7fc00000, 0xffc00000, 0x7f800001, 0xffffffff, 0x7fffffff, 0x3f800000};
  std::memcpy(words.data(), chosen, sizeof chosen);
  return words;
}

/// Around `middle`; and what is not a normal number, or has no normal number for an answer.
Words approximation_input(float middle) {
  Words words;
  for (uint32_t lane = 0; lane < lanes; ++lane) words.push_back(bits(middle + spread(noise(6000 + lane))));
  const uint32_t chosen[] = {0x00000000, 0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0x00000001, 0x807fffff,
                             0x3f800000, 0xc2fc0000, 0xc3160000, 0x43160000, 0x7f000000, 0xff7fffff};
  std::memcpy(words.data(), chosen, sizeof chosen);
  return words;
}

// --- cases
// ------------------------------------------------------------------------------------------------------------

/// One warp; `in` and `out` have as many words a lane as the case says.
Case of_a_warp(const char* name, bool exact, unsigned words, const Words& input,
               void (*kernel)(const uint32_t*, uint32_t*)) {
  const auto ask = [=](Stream stream) {
    DeviceWords in(input, stream), out(Words(size_t{lanes} * words), stream);
    gpu::launch(name, dim3(1), dim3(lanes), 0, stream, kernel, static_cast<const uint32_t*>(in.data()), out.data());
    return out.read(stream);
  };
  return {name, exact, words, ask, {}};
}

std::vector<Case> make_cases(int major) {
  std::vector<Case> cases = {
      of_a_warp("ldmatrix_x4", true, 4, noise_words(lanes * row_words, 0), ldmatrix_kernel<false>),
      of_a_warp("ldmatrix_x4_trans", true, 4, noise_words(lanes * row_words, 0), ldmatrix_kernel<true>),
      of_a_warp("mma_bf16_integers", true, 4, mma_input(small_integer, 1000), mma_kernel),
      of_a_warp("mma_bf16_numbers", false, 4, mma_input(spread, 2000), mma_kernel),
      of_a_warp("mma_bf16_special", false, 4, mma_special(), mma_kernel),
      of_a_warp("cp_async_16", true, 8, noise_words(lanes * 8, 4000), cp_async_kernel),
      of_a_warp("pack_bf16x2", true, 1, pack_input(), pack_kernel),
      of_a_warp("exp2_approx", false, 1, approximation_input(0), approximation_kernel<true>),
      of_a_warp("reciprocal_approx", false, 1, approximation_input(5), approximation_kernel<false>)};
  if (major == 9) add_hopper_cases(cases);
  return cases;
}

void write(const std::vector<Case>& cases, const DeviceProperties& device, const std::string& path) {
  std::ofstream file(path);
  file << "# answers of " << device.name << ", compute capability " << device.major << "." << device.minor << "\n";
  for (const Case& c : cases) {
    file << c.name << " " << c.words << " " << c.out.size() << "\n";
    for (size_t i = 0; i < c.out.size(); ++i) {
      char word[16];
      std::snprintf(word, sizeof word, "%08x", c.out[i]);
      file << word << ((i + 1) % c.words == 0 ? '\n' : ' ');
    }
  }
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

/// How many words differ.
size_t differences(const Case& c, const Words& want) {
  if (want.size() != c.out.size()) return c.out.size();
  double largest = 0;
  for (const uint32_t word : want)
    if (std::isfinite(value(word))) largest = std::fmax(largest, std::fabs(static_cast<double>(value(word))));
  size_t count = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    if (c.out[i] == want[i]) continue;
    const double a = static_cast<double>(value(c.out[i])), b = static_cast<double>(value(want[i]));
    const bool close = std::isnan(a) && std::isnan(b) ? true : std::fabs(a - b) <= 1e-6 * largest;
    if (c.exact || !close) ++count;
  }
  return count;
}

/// The file's answers by name, and the major compute capability of who gave them.
struct Answers {
  int major = 0;
  std::map<std::string, Words> words;
};

Answers read(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  Answers answers;
  std::string line;
  std::getline(file, line);
  std::printf("%s\n", line.c_str());
  const size_t at = line.rfind(' ');
  if (at != std::string::npos) answers.major = std::atoi(line.c_str() + at);
  std::string name;
  for (size_t words = 0, count = 0; file >> name >> words >> count;) {
    Words& want = answers.words[name];
    want.resize(count);
    for (uint32_t& word : want) file >> std::hex >> word >> std::dec;
    if (!file) throw std::runtime_error(path + " ends within " + name);
  }
  return answers;
}

int check(const std::vector<Case>& cases, const Answers& answers) {
  int passed = 0, failed = 0;
  for (const Case& c : cases) {
    const auto found = answers.words.find(c.name);
    const size_t wrong = found == answers.words.end() ? c.out.size() : differences(c, found->second);
    const std::string what = found == answers.words.end() ? "not in the file"
                             : wrong == 0                 ? "same"
                                                          : std::to_string(wrong) + " words differ";
    std::printf("%-28s %s\n", c.name.c_str(), what.c_str());
    ++(wrong == 0 ? passed : failed);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

int run(const std::string& mode, const std::string& path) {
  const DeviceProperties device = devices()[0];
  select(0);
  Answers answers;
  answers.major = device.major;
  if (mode == "--check") answers = read(path);
  std::vector<Case> cases = make_cases(answers.major);
  const Stream stream = create_stream();
  for (Case& c : cases) c.out = c.ask(stream);
  destroy_stream(stream);
  const Words *wgmma = nullptr, *mma = nullptr;
  for (const Case& c : cases) {
    if (c.name == "wgmma_numbers") wgmma = &c.out;
    if (c.name == "wgmma_numbers_by_mma") mma = &c.out;
  }
  if (wgmma != nullptr) std::printf("wgmma and mma.sync give %s bits\n", *wgmma == *mma ? "the same" : "other");
  if (mode == "--check") return check(cases, answers);
  write(cases, device, path);
  return 0;
}

}  // namespace
}  // namespace fire::cuda::goldens

int main(int argc, char** argv) {
  const std::string mode = argc == 3 ? argv[1] : "";
  if (mode != "--out" && mode != "--check") {
    std::fprintf(stderr, "usage: wrapper_goldens --out FILE | --check FILE\n");
    return 2;
  }
  try {
    return fire::cuda::goldens::run(mode, argv[2]);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    std::printf("0 passed, 1 failed\n");
    return 1;
  }
}
