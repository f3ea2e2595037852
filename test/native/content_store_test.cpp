// The feature store must change no bit, whatever happens to its folder: cold, warm, damaged, full, deleted, shared.
#include "tensor/content_store.h"

#include <fstream>

#include "check.h"
#include "fixture.h"

using namespace fire;
using namespace fire::test;

namespace {

namespace fs = std::filesystem;

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

std::string found(const ContentStore& store, const ContentStore::Key& key) {
  const auto value = store.find(key);
  return value ? std::string(reinterpret_cast<const char*>(value->data()), value->size()) : "nothing";
}

std::vector<fs::path> files_in(const std::string& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) files.push_back(entry.path());
  return files;
}

std::vector<uint8_t> picture(int64_t height, int64_t width) {
  Random random(static_cast<uint32_t>(height));
  std::vector<uint8_t> rgb(static_cast<size_t>(height * width * 3));
  for (uint8_t& value : rgb) value = static_cast<uint8_t>(random.integer(0, 255));
  return rgb;
}

/// Log-probabilities of a prompt about an image, by an engine with this store.
std::vector<float> logprobs(const std::optional<ContentStoreSpec>& store) {
  EngineSpec spec = engine_spec("qwen3_vl");
  spec.feature_store = store;
  Engine engine(spec);
  const auto rgb = picture(64, 96);
  const EncodedImage image = engine.encode_image("a", {64, 96, rgb.data()}, nullptr);
  std::vector<int32_t> ids = {1, 2};
  ids.insert(ids.end(), static_cast<size_t>(image.tokens), static_cast<int32_t>(engine.config().image_token_id));
  ids.insert(ids.end(), {3, 4, 5});
  return engine.logprobs({SequenceRef{ids, {"a"}}}, true, nullptr)[0];
}

}  // namespace

TEST("content store: gives back what it was given, to every process, under its own key only") {
  TempDir dir;
  ContentStore store({dir.path(), "model", 1 << 20}, "scope");
  const auto key = store.key("image", bytes("pixels"));
  CHECK(found(store, key) == "nothing");
  store.keep(key, bytes("features"));
  CHECK(found(store, key) == "features");
  CHECK(found(ContentStore({dir.path(), "model", 1 << 20}, "scope"), key) == "features");
  CHECK(store.key("image", bytes("pixel")) != key);
  CHECK(store.key("reference", bytes("pixels")) != key);
  CHECK(ContentStore({dir.path(), "other", 1 << 20}, "scope").key("image", bytes("pixels")) != key);
  CHECK(ContentStore({dir.path(), "model", 1 << 20}, "other").key("image", bytes("pixels")) != key);
}

TEST("content store: what was cut, damaged or renamed is not there") {
  TempDir dir;
  ContentStore store({dir.path(), "model", 1 << 20}, "");
  const auto key = store.key("image", bytes("a")), other = store.key("image", bytes("b"));
  store.keep(key, bytes("features"));
  const fs::path file = files_in(dir.path()).at(0);
  const std::string whole = read_file(file.string(), 1 << 20);
  for (size_t length = 0; length < whole.size(); ++length) {
    std::ofstream(file, std::ios::binary) << whole.substr(0, length);
    CHECK(found(store, key) == "nothing");
  }
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ 1);
    std::ofstream(file, std::ios::binary) << flipped;
    CHECK(found(store, key) == "nothing");
  }
  std::ofstream(file, std::ios::binary) << whole;
  CHECK(found(store, key) == "features");
  const std::string name = hex(other);
  const fs::path place = fs::path(dir.path()) / name.substr(0, 2);
  fs::create_directories(place);
  fs::copy(file, place / name);
  CHECK(found(store, other) == "nothing");
}

TEST("content store: is bounded, and clears what killed writers left") {
  TempDir dir;
  const std::string text(100, 'x');
  ContentStore store({dir.path(), "model", 300}, "");
  for (const char* name : {"a", "b", "c"}) store.keep(store.key("image", bytes(name)), bytes(text));
  CHECK(files_in(dir.path()).size() == 2);
  CHECK(found(store, store.key("image", bytes("c"))) == "nothing");

  const fs::path left = dir / "ab.tmp-1", fresh = dir / "cd.tmp-2";
  for (const fs::path& path : {left, fresh}) std::ofstream(path) << "half";
  fs::last_write_time(left, fs::file_time_type::clock::now() - std::chrono::hours(2));
  ContentStore again({dir.path(), "model", 300}, "");
  CHECK(!fs::exists(left));
  CHECK(fs::exists(fresh));

  fs::remove_all(dir.path());
  again.keep(again.key("image", bytes("d")), bytes("features"));
  CHECK(found(again, again.key("image", bytes("a"))) == "nothing");
}

TEST("feature store: an engine's answers have the same bits without, cold, warm and damaged") {
  TempDir dir;
  const std::optional<ContentStoreSpec> store{{dir.path(), "model", size_t{1} << 30}};
  const auto plain = logprobs(std::nullopt);
  CHECK(same_bits(logprobs(store), plain));
  CHECK(files_in(dir.path()).size() == 1);
  CHECK(same_bits(logprobs(store), plain));
  std::ofstream(files_in(dir.path()).at(0)) << "damaged";
  CHECK(same_bits(logprobs(store), plain));
  CHECK(same_bits(logprobs(store), plain));
}

TEST(
    "feature store: reference rows of another engine change no bit, and other pixels under the same name are other "
    "rows") {
  TempDir dir;
  const Objective objective = Objective::make({"fire", 0.1, 0.01, 0.1, 0.5, KlReduction::sum});
  const auto losses = [&](bool with_store, size_t memory, int64_t height) {
    EngineSpec spec = engine_spec("qwen3_vl");
    if (with_store) spec.feature_store = ContentStoreSpec{dir.path(), "model", size_t{1} << 30};
    spec.reference_cache_bytes = memory;
    Engine engine(spec);
    const auto rgb = picture(height, 96), twin = picture(height + 32, 96);
    const EncodedImage image = engine.encode_image("clean", {height, 96, rgb.data()}, nullptr);
    engine.encode_image("corrupted", {height, 96, twin.data()}, nullptr);
    Random random(3);
    std::vector<Pair> pairs(3);
    for (size_t i = 0; i < pairs.size(); ++i) {
      Pair& p = pairs[i];
      p.id = "p" + std::to_string(i);
      p.images = {"clean"};
      if (i != 1) p.corrupted_images = {"corrupted"};
      p.prompt = {1};
      p.prompt.insert(p.prompt.end(), static_cast<size_t>(image.tokens),
                      static_cast<int32_t>(engine.config().image_token_id));
      p.prompt.push_back(2);
      p.chosen = random.ids(5, 3, 9);
      p.rejected = random.ids(6, 3, 9);
      p.chosen_mask = {0, 1, 1, 0, 0};
      p.rejected_mask = {0, 1, 0, 0, 1, 0};
      p.weight = 1;
    }
    std::vector<double> all;
    for (const PairStats& p : engine.evaluate(pairs, objective, {3, Layout::packed}, nullptr).pairs) {
      all.push_back(p.loss.loss);
      for (const double logp : p.logps.reference) all.push_back(logp);
    }
    return all;
  };
  const size_t memory = size_t{1} << 20;
  const auto plain = losses(false, 0, 64);
  CHECK(same_bits(losses(true, memory, 64), plain));
  CHECK(files_in(dir.path()).size() == 5);  // two images, three pairs
  CHECK(same_bits(losses(true, memory, 64), plain));
  CHECK(same_bits(losses(true, 0, 64), plain));
  CHECK(files_in(dir.path()).size() == 5);
  CHECK(same_bits(losses(true, memory, 96), losses(false, 0, 96)));
  for (const fs::path& file : files_in(dir.path())) fs::resize_file(file, fs::file_size(file) / 2);
  CHECK(same_bits(losses(true, memory, 64), plain));
}
