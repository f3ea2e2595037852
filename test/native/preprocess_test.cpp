// Resizing and patches against the plain form of their arithmetic, one value after the other: the same bits.
#include <algorithm>
#include <cmath>

#include "check.h"
#include "cpu/thread_pool.h"
#include "fixture.h"
#include "model/image.h"
#include "model/resample.h"
#include "tower_batch.h"

using namespace fire;
using namespace fire::test;

namespace {

using Bytes = std::vector<uint8_t>;

uint8_t clip(int32_t fixed) { return static_cast<uint8_t>(std::clamp(fixed >> resample_bits, 0, 255)); }

/// `outer` lines of places `stride` bytes apart, `inner` bytes of each side by side.
void resample(const uint8_t* in, uint8_t* out, int64_t outer, int64_t in_line, int64_t out_line, int64_t stride,
              int64_t inner, const std::vector<Taps>& taps) {
  for (int64_t line = 0; line < outer; ++line)
    for (size_t o = 0; o < taps.size(); ++o)
      for (int64_t c = 0; c < inner; ++c) {
        int32_t sum = 1 << (resample_bits - 1);
        const uint8_t* p = in + line * in_line + taps[o].begin * stride + c;
        for (const int32_t w : taps[o].weights) {
          sum += *p * w;
          p += stride;
        }
        out[line * out_line + static_cast<int64_t>(o) * stride + c] = clip(sum);
      }
}

Bytes plain_resize(const Rgb& image, Size to, const Window& window) {
  const int64_t line = window.width * 3;
  Bytes narrow(static_cast<size_t>(image.height * line));
  resample(image.pixels, narrow.data(), image.height, image.width * 3, line, 3, 3,
           make_taps(image.width, to.width, window.left, window.width));
  Bytes result(static_cast<size_t>(window.height * line));
  resample(narrow.data(), result.data(), 1, 0, 0, line, line,
           make_taps(image.height, to.height, window.top, window.height));
  return result;
}

struct Kind {
  int64_t patch, temporal, merge;
  std::array<float, 3> mean, std;
};

std::vector<float> plain_patches(const Patches& image, const Kind& k) {
  const int64_t width = image.grid_w * k.patch;
  std::vector<float> out;
  for (int64_t block_y = 0; block_y < image.grid_h; block_y += k.merge)
    for (int64_t block_x = 0; block_x < image.grid_w; block_x += k.merge)
      for (int64_t y = block_y; y < block_y + k.merge; ++y)
        for (int64_t x = block_x; x < block_x + k.merge; ++x)
          for (size_t c = 0; c < 3; ++c)
            for (int64_t t = 0; t < k.temporal; ++t)
              for (int64_t row = y * k.patch; row < (y + 1) * k.patch; ++row)
                for (int64_t col = x * k.patch; col < (x + 1) * k.patch; ++col) {
                  const float value = static_cast<float>(image.pixels[static_cast<size_t>(row * width + col) * 3 + c]);
                  out.push_back((value / 255.0f - k.mean[c]) / k.std[c]);
                }
  return out;
}

Spread threads(cpu::ThreadPool& pool) {
  return [&pool](int64_t tasks, const std::function<void(int64_t)>& task) {
    pool.parallel_for(tasks, [&](int64_t i, int) { task(i); });
  };
}

}  // namespace

TEST("preprocess: resizing has the bits of its plain form, on any number of threads") {
  cpu::ThreadPool pool(3);
  Random random(1);
  const int64_t sizes[][2] = {{1, 1},  {1, 40},  {40, 1},   {2, 3},    {17, 16},
                              {33, 7}, {64, 96}, {131, 77}, {200, 31}, {257, 129}};
  for (const auto& [h, w] : sizes)
    for (const Size to : {Size{1, 1}, Size{h, w}, Size{32, 64}, Size{97, 21}, Size{300, 150}}) {
      const Bytes rgb = noise(static_cast<uint32_t>(h * 1000 + w), h, w);
      const Rgb image{h, w, rgb.data()};
      const Bytes expected = plain_resize(image, to, {0, 0, to.height, to.width});
      CHECK(resize_bicubic(image, to, one_by_one) == expected);
      CHECK(resize_bicubic(image, to, threads(pool)) == expected);
      const Window part{random.integer(0, to.height - 1), random.integer(0, to.width - 1), 1, 1};
      const Window window{part.top, part.left, random.integer(1, to.height - part.top),
                          random.integer(1, to.width - part.left)};
      CHECK(resize_bicubic(image, to, window, threads(pool)) == plain_resize(image, to, window));
    }
}

TEST("preprocess: padding to a square has the bits of padding first") {
  cpu::ThreadPool pool(3);
  const std::array<uint8_t, 3> fill{122, 116, 104};
  for (const auto& [h, w] : {std::pair<int64_t, int64_t>{37, 90}, {90, 37}, {64, 64}, {1, 50}, {51, 2}, {300, 7}})
    for (const int64_t side : {14, 56, 120, 336}) {
      const Bytes rgb = noise(static_cast<uint32_t>(h * 1000 + w), h, w);
      const int64_t square = std::max(h, w), top = (square - h) / 2, left = (square - w) / 2;
      Bytes padded;
      for (int64_t i = 0; i < square * square; ++i) padded.insert(padded.end(), fill.begin(), fill.end());
      for (int64_t y = 0; y < h; ++y)
        std::copy_n(rgb.begin() + y * w * 3, w * 3, padded.begin() + ((top + y) * square + left) * 3);
      for (const Window window : {Window{0, 0, side, side}, Window{side / 4, side / 5, side / 2, side / 3}})
        CHECK(resize_padded({h, w, rgb.data()}, fill, side, window, threads(pool)) ==
              plain_resize({square, square, padded.data()}, {side, side}, window));
    }
}

TEST("preprocess: patches have the bits of two divisions a value, in every family and in any pieces") {
  Random random(2);
  for (const Kind& kind :
       {Kind{16, 2, 2, {0.5f, 0.5f, 0.5f}, {0.5f, 0.5f, 0.5f}},
        Kind{14, 2, 2, {0.48145466f, 0.4578275f, 0.40821073f}, {0.26862954f, 0.26130258f, 0.27577711f}},
        Kind{14, 1, 1, {0.48145466f, 0.4578275f, 0.40821073f}, {0.26862954f, 0.26130258f, 0.27577711f}},
        Kind{3, 3, 3, {0, 0.1f, 0.2f}, {1, 0.3f, 0.7f}}}) {
    const PatchRows rows(kind.patch, kind.temporal, kind.merge, kind.mean, kind.std);
    const int64_t grid_h = 2 * kind.merge, grid_w = 3 * kind.merge;
    const Patches image{grid_h, grid_w, noise(3, grid_h * kind.patch, grid_w * kind.patch)};
    const std::vector<float> expected = plain_patches(image, kind);
    CHECK(same_bits(rows.values(image), expected));
    const int64_t size = static_cast<int64_t>(expected.size());
    CHECK(size == image.count() * rows.length());
    std::vector<bf16> rounded(expected.size()), narrow(expected.size());
    for (size_t i = 0; i < expected.size(); ++i) rounded[i] = to_bf16(expected[i]);
    std::vector<float> pieces(expected.size());
    for (int64_t begin = 0; begin < size;) {
      const int64_t end = std::min(size, begin + random.integer(1, 3 * kind.patch * kind.patch));
      rows.write(image, begin, end, DType::f32, pieces.data() + begin);
      rows.write(image, begin, end, DType::bf16, narrow.data() + begin);
      begin = end;
    }
    CHECK(same_bits(pieces, expected));
    CHECK(std::equal(narrow.begin(), narrow.end(), rounded.begin(), [](bf16 a, bf16 b) { return a.bits == b.bits; }));
  }
}

TEST("preprocess: what a family's tower is given is its view, patch by patch") {
  for (const char* family : families) {
    const ModelConfig config = ModelConfig::load(golden_directory(family));
    const Bytes rgb = noise(4, 90, 130);
    const View view = config.vision->view({90, 130, rgb.data()}, one_by_one);
    const Patches patches = config.vision->preprocess({90, 130, rgb.data()}, one_by_one);
    CHECK(patches.pixels == view.pixels);
    const int64_t side = config.vision->rows().side();
    CHECK(patches.grid_h * side == view.size.height && patches.grid_w * side == view.size.width);
    CHECK(config.vision->grid_of(patches).tokens() == config.vision->token_grid({90, 130}).tokens());
  }
}

TEST("tower: images together and alone are the same bits, in every family and type") {
  for (const char* family : families)
    for (const ComputeType dtype : {ComputeType::f32, ComputeType::bf16}) {
      EngineSpec spec = engine_spec(family);
      spec.device.dtype = dtype;
      for (const int threads : {1, 3}) {
        spec.device.threads = threads;
        check_tower_batch(spec);
      }
    }
}

TEST("tower: batches keep the order, fill up to the bound, and an image above it goes alone") {
  const auto cut = [](std::vector<int64_t> patches) { return tower_batches(patches, 10); };
  CHECK(cut({}).empty());
  CHECK((cut({4, 4, 2}) == std::vector<size_t>{3}));
  CHECK((cut({4, 4, 3, 7, 1}) == std::vector<size_t>{2, 4, 5}));
  CHECK((cut({50, 1, 50, 50, 10}) == std::vector<size_t>{1, 2, 3, 4, 5}));
}
