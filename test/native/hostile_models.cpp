// Campaigns of hostile model folders: golden ones with a seeded mutation. Whatever comes of one, it is a result or an
// error with a code that is no defect of ours, within a minute and without gigabytes. Meant for a build with
// -DFIRE_SANITIZE=address,undefined; FIRE_HOSTILE_ROUNDS says how many (900 take ten minutes there),
// FIRE_HOSTILE_SEED starts another sequence.
#include <sys/resource.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdlib>

#include "engine/merge.h"
#include "fixture.h"
#include "verify/verify.h"

using namespace fire;
using namespace fire::test;

namespace {

int64_t from_environment(const char* name, int64_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::atoll(value) : otherwise;
}

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  template <class T>
  const T& one_of(const std::vector<T>& choices) {
    return choices[static_cast<size_t>(random_.integer(0, static_cast<int64_t>(choices.size()) - 1))];
  }

  /// Changes one file of a folder, or what stands in its place. Returns a few words about it.
  std::string change(const std::string& folder) {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
      if (entry.is_regular_file()) files.push_back(entry.path().string());
    std::sort(files.begin(), files.end());
    const std::string path = one_of(files), name = path.substr(folder.size() + 1);
    if (random_.chance(.1)) return name + ": " + replace(path);
    std::string bytes = read_file(path, size_t{1} << 26);
    if (path.ends_with(".json")) {
      bytes = random_.chance(.8) ? json(std::move(bytes)) : raw(std::move(bytes));
    } else {
      bytes = random_.chance(.6) ? header(bytes) : raw(std::move(bytes));
    }
    write_file(path, {bytes});
    return name + ": " + what_;
  }

 private:
  /// Something else under the name of a file.
  std::string replace(const std::string& path) {
    std::filesystem::remove(path);
    switch (random_.integer(0, 5)) {
      case 0:
        return "missing";
      case 1:
        CHECK(mkfifo(path.c_str(), 0600) == 0);
        return "a named pipe";
      case 2:
        std::filesystem::create_directory(path);
        return "a folder";
      case 3:
        std::filesystem::create_symlink("/dev/zero", path);
        return "a device";
      case 4:
        std::filesystem::create_symlink(path, path);
        return "a circle";
      default:
        write_file(path, {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"});
        return "a pointer";
    }
  }

  /// Bytes changed, cut or added anywhere.
  std::string raw(std::string bytes) {
    const auto place = [&] { return static_cast<size_t>(random_.integer(0, static_cast<int64_t>(bytes.size()) - 1)); };
    if (bytes.empty()) return bytes;
    switch (random_.integer(0, 3)) {
      case 0:
        what_ = "cut";
        bytes.resize(place());
        return bytes;
      case 1:
        what_ = "longer";
        return bytes + std::string(static_cast<size_t>(random_.integer(1, 9)), '\1');
      case 2:
        what_ = "a run of one byte";
        bytes.replace(place(), 64, std::string(64, one_of<char>({'\0', '\xff', '\x7f', '[', '"'})));
        return bytes;
      default:
        what_ = "bits";
        for (int64_t i = random_.integer(1, 20); i > 0; --i)
          bytes[place()] ^= static_cast<char>(1 << random_.integer(0, 7));
        return bytes;
    }
  }

  /// The header of a safetensors file, its length put right.
  std::string header(const std::string& bytes) {
    uint64_t length = 0;
    for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<uint8_t>(bytes[static_cast<size_t>(i)]);
    const std::string changed = json(bytes.substr(8, length));
    std::string out;
    for (int i = 0; i < 8; ++i) out += static_cast<char>(static_cast<uint64_t>(changed.size()) >> (8 * i));
    return out + changed + bytes.substr(8 + length);
  }

  /// One value of a document replaced, one piece taken out or doubled, or two values exchanged.
  std::string json(std::string text) {
    std::vector<std::pair<size_t, size_t>> values;  // scalars and names, begin and length
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      if (text[at] == '"') {
        while (++at < text.size() && text[at] != '"') at += text[at] == '\\';
        ++at;
      } else {
        at = text.find_first_of(" \n\r\t,:[]{}\"", at);
        if (at == std::string::npos) at = text.size();
        if (at == begin) {
          ++at;
          continue;
        }
      }
      values.emplace_back(begin, std::min(at, text.size()) - begin);
    }
    if (values.empty()) return text;
    const auto [begin, length] = one_of(values);
    const std::string old = text.substr(begin, length);
    static const std::vector<std::string> numbers{"0",
                                                  "-1",
                                                  "1",
                                                  "2",
                                                  "3",
                                                  "7",
                                                  "0.5",
                                                  "1e300",
                                                  "-1e300",
                                                  "1e-300",
                                                  "65536",
                                                  "1e9",
                                                  "-0",
                                                  "2147483647",
                                                  "2147483648",
                                                  "4294967296",
                                                  "9007199254740991",
                                                  "-9007199254740991"};
    static const std::vector<std::string> others{"null",   "true",     "false",    "[]",      "{}",
                                                 "\"\"",   "\"BF16\"", "\"F16\"",  "\"F32\"", "\"I64\"",
                                                 "\"U8\"", "\"F64\"",  "\"none\"", "[[0]]",   "{\"a\":1}"};
    switch (random_.integer(0, 6)) {
      case 0:
      case 1:
      case 2:
        return told(text, begin, length, one_of(numbers));
      case 3:
        return told(text, begin, length, one_of(others));
      case 4: {
        const auto [from, count] = one_of(values);
        return told(text, begin, length, text.substr(from, count));
      }
      case 5:
        return told(text, begin, length, "");
      default:
        what_ = "nested";
        return text.substr(0, begin) + std::string(100000, '[') + text.substr(begin);
    }
  }

  std::string told(const std::string& text, size_t begin, size_t length, const std::string& to) {
    what_ = text.substr(begin, std::min<size_t>(length, 60)) + " -> " + to.substr(0, 60);
    return text.substr(0, begin) + to + text.substr(begin + length);
  }

  Random random_;
  std::string what_;
};

void use(const std::string& folder, int64_t round) {
  VerifySpec spec{folder, cpu_spec()};
  switch (round % 4) {
    case 0:
      std::filesystem::create_directory(folder + "/merged");
      merge_adapter({folder, folder + "/adapter", folder + "/merged", size_t{1} << 30, {}}, {});
      return;
    case 1:
      spec.device.dtype = ComputeType::bf16;
      verify(spec, {});
      return;
    case 2: {
      EngineSpec plan = engine_spec(folder);
      plan.device.plan_only = true;
      Engine engine(plan);
      engine.image_tokens(640, 480);
      return;
    }
    default:
      Engine engine(engine_spec(folder));
      const std::vector<uint8_t> rgb(48 * 40 * 3, 100);
      engine.encode_image("i", {40, 48, rgb.data()}, nullptr);
      std::vector<int32_t> ids(static_cast<size_t>(engine.image_tokens(48, 40)),
                               static_cast<int32_t>(engine.config().image_token_id));
      ids.insert(ids.end(), {1, 2, 3});
      engine.logprobs({SequenceRef{ids, {"i"}}}, true, nullptr);
  }
}

}  // namespace

TEST("hostile: model folders") {
  const int64_t rounds = from_environment("FIRE_HOSTILE_ROUNDS", 24), first = from_environment("FIRE_HOSTILE_SEED", 0);
  const std::vector<std::string> goldens{"qwen3_vl", "qwen2_5_vl", "llava", "llava_qwen2"};
  int64_t refused = 0;
  for (int64_t round = 0; round < rounds; ++round) {
    Mutator mutator(static_cast<uint32_t>(first * 1000003 + round));
    TempDir dir;
    const std::string folder = dir / "m";
    std::filesystem::copy(golden_directory(mutator.one_of(goldens)), folder, std::filesystem::copy_options::recursive);
    const std::string what = "round " + std::to_string(round) + ", " + mutator.change(folder);
    const auto start = std::chrono::steady_clock::now();
    try {
      use(folder, round);
    } catch (const Error& e) {
      ++refused;
      if (e.code() == Code::internal) check::fail(__FILE__, __LINE__, what + ": " + e.what());
    } catch (const std::exception& e) {
      check::fail(__FILE__, __LINE__, what + ": " + e.what());
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (seconds > 60) check::fail(__FILE__, __LINE__, what + ": " + std::to_string(seconds) + " s");
    check::count_check();
    if (rounds > 100) std::fprintf(stderr, "%s: %.1f s\n", what.c_str(), seconds);
  }
  CHECK(refused > rounds / 3);  // a mutation that changes nothing tests nothing
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  CHECK(usage.ru_maxrss < 4L << 20);  // KiB
}
