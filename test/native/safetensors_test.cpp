// safetensors: what is written is read; a file that is cut, lies or points outside its folder is refused and named.
#include "tensor/safetensors.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <thread>

#include "fixture.h"
#include "tensor/json.h"

using namespace fire;
using namespace fire::test;

namespace {

/// A file with this header and this many data bytes (0, 1, 2, ...).
std::string file_of(const std::string& header, size_t data_bytes) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(static_cast<uint64_t>(header.size()) >> (8 * i));
  bytes += header;
  for (size_t i = 0; i < data_bytes; ++i) bytes += static_cast<char>(i);
  return bytes;
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return json_quote(name) + R"(:{"dtype":")" + dtype + R"(","shape":[)" + shape + R"(],"data_offsets":[)" + offsets +
         "]}";
}

/// Opening a file of this header must fail with these words, and with the file's name.
void refused(Code code, const std::string& header, size_t data_bytes, const std::string& word) {
  TempDir dir;
  write_file(dir / "bad.safetensors", {file_of(header, data_bytes)});
  CHECK_ERROR(code, ("bad.safetensors", word), SafeTensors::open_file(dir / "bad.safetensors"));
}

void write_sample(const std::string& path, const std::string& name, float value) {
  std::vector<float> data(6, value);
  write_safetensors(path, {{name, view(data, {2, 3})}}, {});
}

}  // namespace

TEST("safetensors: round trip of every type and shape") {
  TempDir dir;
  std::vector<float> f{1.5f, -0.0f, NAN, INFINITY, 1e-45f, 3};
  std::vector<bf16> h{{0x3f80}, {0xffff}, {0x0001}};
  std::vector<f16> h16{{0x3c00}, {0xffff}, {0x0001}};
  std::vector<int32_t> i{-1, 7};
  int64_t wide[2] = {INT64_MIN, INT64_MAX};
  uint8_t bytes[3] = {0, 255, 7};
  double d = 0.1;
  const std::vector<NamedTensor> tensors = {{"f", view(f, {2, 3})},
                                            {"h \"quoted\" \xC3\xA9", view(h, {3, 1, 1})},
                                            {"h16", Tensor(h16.data(), DType::f16, {3})},
                                            {"i", view(i)},
                                            {"w", Tensor(wide, DType::i64, {2})},
                                            {"b", Tensor(bytes, DType::u8, {3})},
                                            {"d", Tensor(&d, DType::f64, {})},
                                            {"none", Tensor(f.data(), DType::f32, {0, 4})}};
  write_safetensors(dir / "a.safetensors", tensors, {{"format", "pt"}, {"note", "a\nb"}});
  CHECK(dir.entries() == 1);  // no temporary file is left
  const SafeTensors file = SafeTensors::open_file(dir / "a.safetensors");
  CHECK(file.tensors().size() == tensors.size());
  for (const NamedTensor& t : tensors) {
    const Tensor& got = file.at(t.name);
    CHECK(got.describe() == t.tensor.describe());
    CHECK(got.bytes() == 0 || std::memcmp(got.data(), t.tensor.data(), got.bytes()) == 0);
  }
  CHECK(file.bytes() == 24 + 6 + 6 + 8 + 16 + 3 + 8);
  CHECK(file.find("absent") == nullptr);
  CHECK_ERROR(Code::checkpoint, ("a.safetensors", "\"absent\""), file.at("absent"));
}

TEST("safetensors: data that the header leaves misaligned is read all the same") {
  for (const std::string pad : {"", " ", "  ", "   ", "    ", "     "}) {
    TempDir dir;
    const std::string header = "{" + entry("x", "F32", "2", "0,8") + "," + entry("gap", "U8", "1", "8,9") + "," +
                               entry("y", "I64", "1", "9,17") + pad + "}";
    write_file(dir / "odd.safetensors", {file_of(header, 17)});
    const SafeTensors file = SafeTensors::open_file(dir / "odd.safetensors");
    CHECK(reinterpret_cast<uintptr_t>(file.at("x").data()) % 4 == 0 &&
          reinterpret_cast<uintptr_t>(file.at("y").data()) % 8 == 0);
    CHECK(*static_cast<const uint8_t*>(file.at("x").data()) == 0 &&
          *static_cast<const uint8_t*>(file.at("y").data()) == 9);
  }
}

TEST("safetensors: cut at every byte") {
  TempDir dir;
  write_sample(dir / "whole.safetensors", "tensor.name", 1);
  const std::string whole = read_file(dir / "whole.safetensors", 1 << 20);
  for (size_t size = 0; size < whole.size(); ++size) {
    write_file(dir / "cut.safetensors", {std::string_view(whole).substr(0, size)});
    CHECK_ERROR(Code::checkpoint, ("cut.safetensors"), SafeTensors::open_file(dir / "cut.safetensors"));
  }
}

TEST("safetensors: a wrong header length") {
  TempDir dir;
  write_sample(dir / "whole.safetensors", "t", 1);
  const std::string whole = read_file(dir / "whole.safetensors", 1 << 20);
  for (const uint64_t length : {uint64_t{0}, uint64_t{1}, uint64_t{whole.size() - 7}, uint64_t{1} << 27,
                                uint64_t{1} << 31, uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 7}) {
    std::string bytes = whole;
    for (int i = 0; i < 8; ++i) bytes[static_cast<size_t>(i)] = static_cast<char>(length >> (8 * i));
    write_file(dir / "bad.safetensors", {bytes});
    CHECK_ERROR(Code::checkpoint, ("bad.safetensors"), SafeTensors::open_file(dir / "bad.safetensors"));
  }
  write_file(dir / "html.safetensors", {"<!doctype html><html>not found</html>"});
  CHECK_ERROR(Code::checkpoint, ("html.safetensors"), SafeTensors::open_file(dir / "html.safetensors"));
}

TEST("safetensors: headers that lie") {
  refused(Code::checkpoint, "[]", 8, "object");
  refused(Code::checkpoint, "{" + entry("t", "F32", "2", "0,8"), 8, "JSON");
  refused(Code::checkpoint, R"({"t":{"shape":[2],"data_offsets":[0,8]}})", 8, "dtype");
  refused(Code::checkpoint, R"({"t":{"dtype":"F32","data_offsets":[0,8]}})", 8, "shape");
  refused(Code::checkpoint, R"({"t":{"dtype":"F32","shape":[2]}})", 8, "data_offsets");
  refused(Code::checkpoint, R"({"t":{"dtype":1,"shape":[2],"data_offsets":[0,8]}})", 8, "dtype");
  refused(Code::unsupported, "{" + entry("t", "I16", "4", "0,8") + "}", 8, "\"t\"");
  for (const char* dtype : {"F8_E4M3", "I8"})
    refused(Code::unsupported, "{" + entry("t", dtype, "8", "0,8") + "}", 8, "quantised");
  for (const char* shape : {"3", "1", "2,2", "2.5", "-2", "\"2\""})
    refused(Code::checkpoint, "{" + entry("t", "F32", shape, "0,8") + "}", 8, "t");
  for (const char* shape : {"4611686018427387904,4", "9007199254740993", "1099511627776,1099511627776", "1e300"})
    refused(Code::checkpoint, "{" + entry("t", "F32", shape, "0,0") + "}", 8, "t");
  refused(Code::checkpoint, "{" + entry("t", "F32", "1,1,1,1,1,2", "0,8") + "}", 8, "5 dimensions");
  for (const char* offsets : {"0", "0,8,8", "8,0", "-8,0", "0,7", "0,9", "0.5,8.5", "0,\"8\""})
    refused(Code::checkpoint, "{" + entry("t", "F32", "2", offsets) + "}", 16, "t");
  for (const char* offsets : {"4,12", "8,16", "9007199254740984,9007199254740992"})
    refused(Code::checkpoint, "{" + entry("t", "F32", "2", offsets) + "}", 8, "\"t\"");
  refused(Code::checkpoint, "{" + entry("t", "F32", "2", "0,8") + "," + entry("s", "F32", "2", "4,12") + "}", 12,
          "overlap");
  refused(Code::checkpoint, "{" + entry("t", "F32", "2", "0,8") + "," + entry("s", "F32", "2", "0,8") + "}", 8,
          "overlap");
  refused(Code::checkpoint, "{" + entry("t", "F32", "2", "0,8") + "," + entry("t", "F32", "2", "8,16") + "}", 16,
          "twice");
  refused(Code::checkpoint, "{" + entry("t", "F32", "2", "0,8") + "," + entry("s", "F32", "2", "12,20") + "}", 20,
          "hole");
  refused(Code::checkpoint, "{" + entry("t", "F32", "2", "0,8") + "}", 12, "belong to none");
}

TEST("safetensors: sharded checkpoints") {
  TempDir dir;
  CHECK_ERROR(Code::checkpoint, ("model.safetensors.index.json"), SafeTensors::open_checkpoint(dir.path()));
  auto index = [&](const std::string& map) {
    write_file(dir / "model.safetensors.index.json", {R"({"weight_map":{)" + map + "}}"});
  };
  write_sample(dir / "one.safetensors", "a", 1);
  write_sample(dir / "two.safetensors", "b", 2);
  index(R"("a":"one.safetensors","b":"two.safetensors")");
  const SafeTensors file = SafeTensors::open_checkpoint(dir.path());
  CHECK(file.tensors().size() == 2 && file.at("a").f32()[5] == 1 && file.at("b").f32()[0] == 2);

  index(R"("a":"one.safetensors","b":"three.safetensors")");
  CHECK_ERROR(Code::checkpoint, ("index.json", "three.safetensors"), SafeTensors::open_checkpoint(dir.path()));
  index(R"("a":"one.safetensors","b":"two.safetensors","c":"two.safetensors")");
  CHECK_ERROR(Code::checkpoint, ("\"c\"", "two.safetensors"), SafeTensors::open_checkpoint(dir.path()));
  index(R"("a":"one.safetensors","c":"two.safetensors")");
  CHECK_ERROR(Code::checkpoint, ("\"b\"", "does not list"), SafeTensors::open_checkpoint(dir.path()));
  index(R"("a":"two.safetensors","b":"two.safetensors")");
  CHECK_ERROR(Code::checkpoint, ("\"a\""), SafeTensors::open_checkpoint(dir.path()));
  index(R"("a":"one.safetensors","b":7)");
  CHECK_ERROR(Code::checkpoint, ("weight_map.b"), SafeTensors::open_checkpoint(dir.path()));
  write_file(dir / "model.safetensors.index.json", {"{}"});
  CHECK_ERROR(Code::checkpoint, ("weight_map"), SafeTensors::open_checkpoint(dir.path()));

  // one tensor in two shards
  write_sample(dir / "again.safetensors", "a", 3);
  index(R"("a":"one.safetensors","z":"again.safetensors")");
  CHECK_ERROR(Code::checkpoint, ("again.safetensors", "\"a\""), SafeTensors::open_checkpoint(dir.path()));
}

TEST("safetensors: tensors in memory are a checkpoint too") {
  std::vector<float> a(6, 1.0f), b(4, 2.0f);
  const SafeTensors held = SafeTensors::of({{"b", view(b, {4})}, {"a", view(a, {2, 3})}}, "noise");
  CHECK(held.tensors().size() == 2 && held.bytes() == 40 && held.origin() == "noise");
  CHECK(held.at("a").data() == a.data() && held.at("a").rank() == 2);
  CHECK(held.reading([&] { return held.find("c") == nullptr; }));
  CHECK_ERROR(Code::checkpoint, ("noise", "c"), held.at("c"));
}

TEST("safetensors: an index may not point outside its folder") {
  TempDir outer;
  write_sample(outer / "secret.safetensors", "a", 1);
  const std::string inner = outer / "model";
  std::filesystem::create_directory(inner);
  const std::string absolute = outer / "secret.safetensors";
  for (const std::string& name : {std::string("../secret.safetensors"), std::string(".."), std::string(),
                                  std::string("sub/x.safetensors"), absolute}) {
    write_file(inner + "/model.safetensors.index.json", {R"({"weight_map":{"a":)" + json_quote(name) + "}}"});
    CHECK_ERROR(Code::checkpoint, ("\"a\"", "plain file name"), SafeTensors::open_checkpoint(inner));
  }
  std::filesystem::create_directory(inner + "/folder");
  write_file(inner + "/model.safetensors.index.json", {R"({"weight_map":{"a":"folder"}})"});
  CHECK_ERROR(Code::io, ("folder"), SafeTensors::open_checkpoint(inner));
}

TEST("files: what is no file is refused at once, a Git LFS pointer is named as one") {
  TempDir dir;
  CHECK(mkfifo((dir / "model.safetensors").c_str(), 0600) == 0 && mkfifo((dir / "config.json").c_str(), 0600) == 0);
  CHECK_ERROR(Code::io, ("model.safetensors", "named pipe"), SafeTensors::open_checkpoint(dir.path()));
  CHECK_ERROR(Code::io, ("config.json", "named pipe"), Json::load(dir / "config.json"));
  CHECK_ERROR(Code::io, ("/dev/zero", "device"), SafeTensors::open_file("/dev/zero"));
  CHECK_ERROR(Code::io, ("folder"), SafeTensors::open_file(dir.path()));
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";
  write_file(dir / "pointer", {pointer});
  CHECK_ERROR(Code::checkpoint, ("pointer", "git lfs pull"), SafeTensors::open_file(dir / "pointer"));
  CHECK_ERROR(Code::checkpoint, ("pointer", "git lfs pull"), Json::load(dir / "pointer"));
}

TEST("safetensors: a file that shrinks or is written to while it is mapped is an error, not the end of the process") {
  TempDir dir;
  const std::string path = dir / "m.safetensors";
  std::vector<float> data(size_t{1} << 20, 2.0f);
  write_safetensors(path, {{"t", view(data, {1 << 20})}}, {});
  const SafeTensors file = SafeTensors::open_file(path);
  const auto sum = [&] {
    double total = 0;
    for (size_t i = 0; i < data.size(); ++i) total += file.at("t").f32()[i];
    return total;
  };
  CHECK(file.reading(sum) == 2.0 * static_cast<double>(data.size()));
  // between the check before and the check after
  CHECK_ERROR(Code::checkpoint, ("m.safetensors", "was cut", "to 4096 bytes"), file.reading([&] {
    std::filesystem::resize_file(path, 4096);
    return sum();
  }));
  CHECK(sum() < 4096);  // zeros took the place of what is gone
  CHECK_ERROR(Code::checkpoint, ("was cut"), file.reading(sum));

  write_safetensors(path, {{"t", view(data, {1 << 20})}}, {});
  const SafeTensors again = SafeTensors::open_file(path);
  write_safetensors(path, {{"t", view(data, {1 << 20})}}, {});
  again.require_unchanged();  // another file took the name; the mapped one is as it was
  const SafeTensors written = SafeTensors::open_file(path);
  usleep(20000);  // the clock of a file system has ticks
  std::ofstream(path, std::ios::in | std::ios::out).put('x');
  CHECK_ERROR(Code::checkpoint, ("was written to"), written.require_unchanged());

  // Back to what it was is no way back: of what was read meanwhile there may be copies.
  write_safetensors(path, {{"t", view(data, {1 << 20})}}, {});
  const SafeTensors restored = SafeTensors::open_file(path);
  const auto time = std::filesystem::last_write_time(path);
  usleep(20000);
  std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now());
  CHECK_ERROR(Code::checkpoint, ("was written to"), restored.require_unchanged());
  std::filesystem::last_write_time(path, time);
  CHECK_ERROR(Code::checkpoint, ("was written to"), restored.require_unchanged());
}

TEST("safetensors: pages are lost under many readers at once") {
  TempDir dir;
  const std::string path = dir / "m.safetensors";
  std::vector<float> data(size_t{4} << 20, 1.0f);
  for (int round = 0; round < 5; ++round) {
    write_safetensors(path, {{"t", view(data, {4 << 20})}}, {});
    const SafeTensors file = SafeTensors::open_file(path);
    std::vector<std::thread> readers;
    std::vector<double> sums(4);
    for (size_t r = 0; r < sums.size(); ++r)
      readers.emplace_back([&, r] {
        const float* t = file.at("t").f32();
        for (size_t i = 0; i < data.size(); ++i) sums[r] += static_cast<double>(t[(i * 7919 + r) % data.size()]);
      });
    std::filesystem::resize_file(path, static_cast<uintmax_t>(round) * 4096 + 100);
    for (std::thread& reader : readers) reader.join();
    CHECK_ERROR(Code::checkpoint, ("was cut"), file.require_unchanged());
  }
}

TEST("write_file: complete or absent") {
  TempDir dir;
  write_file(dir / "f", {"old"});
  write_file(dir / "f", {"ne", "", "w"});
  CHECK(read_file(dir / "f", 100) == "new");

  // the target's folder is gone, is a file, or the target is a folder
  CHECK_ERROR(Code::io, ("gone/f"), write_file(dir / "gone/f", {"x"}));
  CHECK_ERROR(Code::io, ("f/x"), write_file(dir / "f/x", {"x"}));
  std::filesystem::create_directory(dir / "folder");
  CHECK_ERROR(Code::io, ("folder"), write_file(dir / "folder", {"x"}));
  CHECK(read_file(dir / "f", 100) == "new");
  CHECK(dir.entries() == 2);

  // a disk that is full: the temporary file leads there
  const std::string temporary = dir / ("f.tmp-" + std::to_string(getpid()));
  if (std::ofstream("/dev/full")) {
    std::filesystem::create_symlink("/dev/full", temporary);
    CHECK_ERROR(Code::io, ("write", "f.tmp-"), write_file(dir / "f", {"much newer"}));
    CHECK(read_file(dir / "f", 100) == "new");
    CHECK(dir.entries() == 2 && !std::filesystem::is_symlink(temporary));
  }
}

TEST("write_safetensors: a failed write leaves the old file") {
  TempDir dir;
  write_sample(dir / "m.safetensors", "a", 1);
  const std::string old = read_file(dir / "m.safetensors", 1 << 20);
  if (!std::ofstream("/dev/full")) return;
  std::filesystem::create_symlink("/dev/full", dir / ("m.safetensors.tmp-" + std::to_string(getpid())));
  CHECK_ERROR(Code::io, ("m.safetensors"), write_sample(dir / "m.safetensors", "a", 2));
  CHECK(read_file(dir / "m.safetensors", 1 << 20) == old);
}
