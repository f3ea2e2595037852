// Image preprocessing: sizes, resampling, the order of patches. Pixel-exact agreement with the reference on real sizes
// is part of the golden folders (`fire-train verify`).
#include <cmath>

#include "fixture.h"
#include "model/positions.h"
#include "model/qwen_vl_image.h"
#include "tensor/json.h"

using namespace fire;
using namespace fire::test;

namespace {

std::vector<uint8_t> random_pixels(int64_t height, int64_t width) {
  Random random(static_cast<uint32_t>(height * 1000 + width));
  std::vector<uint8_t> rgb(static_cast<size_t>(height * width * 3));
  for (uint8_t& x : rgb) x = static_cast<uint8_t>(random.integer(0, 255));
  return rgb;
}

QwenVlImage processor(int64_t patch, int64_t min_pixels, int64_t max_pixels) {
  return {min_pixels, max_pixels, {0.5f, 0.5f, 0.5f}, {0.5f, 0.25f, 1.0f}, patch, 2, 2};
}

}  // namespace

TEST("image: smart_resize, the tables of the golden folders") {
  for (const char* golden : {"qwen3_vl", "qwen3_vl_b"}) {
    const Json json = Json::load(golden_directory(golden) + "/golden.json");
    for (const Json& line : json.at("smart_resize_h_w_min_max_outh_outw").array()) {
      std::vector<int64_t> n;
      for (const Json& x : line.array()) n.push_back(x.integer());
      const Size got = smart_resize({n[0], n[1]}, 32, n[2], n[3]);
      CHECK((got == Size{n[4], n[5]}));
    }
  }
}

TEST("image: smart_resize rounds halves to even") {
  // 80 / 32 = 2.5 -> 2, 112 / 32 = 3.5 -> 4
  CHECK((smart_resize({80, 112}, 32, 1, 1 << 20) == Size{64, 128}));
}

TEST("image: smart_resize stays within its bounds") {
  Random random(1);
  for (int i = 0; i < 2000; ++i) {
    const Size from{random.integer(1, 3000), random.integer(1, 3000)};
    const double aspect =
        static_cast<double>(std::max(from.height, from.width)) / static_cast<double>(std::min(from.height, from.width));
    if (aspect > 100) continue;
    const Size to = smart_resize(from, 32, 65536, 1 << 20);
    CHECK(to.height % 32 == 0 && to.width % 32 == 0 && to.height > 0 && to.width > 0);
    CHECK(to.height * to.width >= 65536);
    CHECK(to.height * to.width <= (1 << 20));
    CHECK((smart_resize(to, 32, 65536, 1 << 20) == to));
  }
}

TEST("image: shapes that no model should see are refused") {
  CHECK((smart_resize({1, 200}, 32, 784, 50176) == Size{32, 416}));
  CHECK_ERROR(Code::unsupported, ("201x1", "200"), smart_resize({1, 201}, 32, 784, 50176));
  CHECK_ERROR(Code::unsupported, ("200"), smart_resize({4001, 20}, 32, 784, 50176));
  for (const Size size : {Size{0, 5}, Size{5, 0}, Size{0, 0}, Size{-1, 5}})
    CHECK_ERROR(Code::invalid_argument, ("empty"), smart_resize(size, 32, 784, 50176));
  for (const Size size : {Size{65537, 65537}, Size{5, int64_t{1} << 40}, Size{INT64_MAX, INT64_MAX}})
    CHECK_ERROR(Code::unsupported, ("too large"), smart_resize(size, 32, 784, 50176));
  CHECK_ERROR(Code::unsupported, ("60000x60000", "max_pixels"),
              smart_resize({60000, 60000}, 32, 784, int64_t{1} << 40));
}

TEST("image: resampling to the same size changes nothing") {
  for (const auto& [h, w] : {std::pair<int64_t, int64_t>{1, 1}, {7, 13}, {64, 32}}) {
    const std::vector<uint8_t> rgb = random_pixels(h, w);
    CHECK(same_bits(resize_bicubic({h, w, rgb.data()}, {h, w}, one_by_one), rgb));
  }
}

TEST("image: resampling keeps a flat colour, whatever the sizes") {
  for (const auto& [h, w] : {std::pair<int64_t, int64_t>{1, 1}, {3, 50}, {200, 9}})
    for (const Size to : {Size{1, 1}, Size{32, 64}, Size{5, 3}, Size{250, 10}}) {
      std::vector<uint8_t> rgb;
      for (int64_t i = 0; i < h * w; ++i) rgb.insert(rgb.end(), {0, 137, 255});
      const std::vector<uint8_t> out = resize_bicubic({h, w, rgb.data()}, to, one_by_one);
      CHECK(out.size() == static_cast<size_t>(to.height * to.width * 3));
      bool flat = true;
      for (size_t i = 0; i < out.size(); i += 3) flat &= out[i] == 0 && out[i + 1] == 137 && out[i + 2] == 255;
      CHECK(flat);
    }
}

TEST("image: resampling turns with the image") {
  const int64_t h = 21, w = 34;
  std::vector<uint8_t> rgb;  // smooth, so that nothing is clipped between the two passes
  for (int64_t y = 0; y < h; ++y)
    for (int64_t x = 0; x < w; ++x)
      for (int64_t c = 0; c < 3; ++c)
        rgb.push_back(static_cast<uint8_t>(
            128 + 60 * std::sin(0.3 * static_cast<double>(x) + 0.2 * static_cast<double>(y * (c + 1)))));
  std::vector<uint8_t> turned, expected;
  auto transpose = [](const std::vector<uint8_t>& in, int64_t height, int64_t width) {
    std::vector<uint8_t> out(in.size());
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; ++x)
        std::copy_n(in.begin() + (y * width + x) * 3, 3, out.begin() + (x * height + y) * 3);
    return out;
  };
  turned = transpose(rgb, h, w);
  const std::vector<uint8_t> a = resize_bicubic({h, w, rgb.data()}, {10, 50}, one_by_one),
                             b = resize_bicubic({w, h, turned.data()}, {50, 10}, one_by_one);
  expected = transpose(b, 50, 10);
  int largest = 0;  // the two axes are rounded to 8 bits in turn, in the other order
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - expected[i]));
  CHECK(largest <= 2);
}

TEST("image: an overshoot of the filter is clipped") {
  std::vector<uint8_t> rgb;
  for (int i = 0; i < 16; ++i) rgb.insert(rgb.end(), 3, i < 8 ? 0 : 255);
  const std::vector<uint8_t> out = resize_bicubic({1, 16, rgb.data()}, {1, 160}, one_by_one);
  CHECK(out[70 * 3] == 0 && out[90 * 3] == 255);
  for (size_t i = 3; i < out.size(); i += 3) CHECK(out[i] >= out[i - 3]);  // wrapping around would show here
}

TEST("image: padding in passing is padding first") {
  const std::array<uint8_t, 3> fill{122, 116, 104};
  for (const auto& [h, w] : {std::pair<int64_t, int64_t>{37, 90}, {90, 37}, {64, 64}, {1, 50}, {51, 2}})
    for (const int64_t side : {14, 56, 90, 120}) {
      const std::vector<uint8_t> rgb = random_pixels(h, w);
      const int64_t square = std::max(h, w), top = (square - h) / 2, left = (square - w) / 2;
      std::vector<uint8_t> padded;
      for (int64_t i = 0; i < square * square; ++i) padded.insert(padded.end(), fill.begin(), fill.end());
      for (int64_t y = 0; y < h; ++y)
        std::copy_n(rgb.begin() + y * w * 3, w * 3, padded.begin() + ((top + y) * square + left) * 3);
      const Window window{side / 4, side / 5, side / 2, side / 3};
      CHECK(same_bits(resize_padded({h, w, rgb.data()}, fill, side, window, one_by_one),
                      resize_bicubic({square, square, padded.data()}, {side, side}, window, one_by_one)));
      // and a window is a part of the whole
      const std::vector<uint8_t> all = resize_bicubic({square, square, padded.data()}, {side, side}, one_by_one);
      const std::vector<uint8_t> part =
          resize_bicubic({square, square, padded.data()}, {side, side}, window, one_by_one);
      bool same = true;
      for (int64_t y = 0; y < window.height; ++y)
        same &= std::equal(part.begin() + y * window.width * 3, part.begin() + (y + 1) * window.width * 3,
                           all.begin() + ((window.top + y) * side + window.left) * 3);
      CHECK(same);
    }
}

TEST("image: one pixel becomes one flat image") {
  const uint8_t pixel[3] = {10, 20, 30};
  const QwenVlImage config = processor(16, 1024, 4096);
  const Patches p = patches_of(config.view({1, 1, pixel}, one_by_one), 16);
  const std::vector<float> values = config.rows().values(p);
  CHECK(p.grid_h == 2 && p.grid_w == 2 && values.size() == 4 * 3 * 2 * 16 * 16);
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t channel = i / (2 * 16 * 16) % 3;
    CHECK(values[i] == (static_cast<float>(pixel[channel]) / 255.0f - 0.5f) / config.std[channel]);
  }
  CHECK(config.token_grid({1, 1}).tokens() == 1);
  const View view = config.view({1, 1, pixel}, one_by_one);
  CHECK(view.size == (Size{32, 32}) && view.scale_x == 32 && view.scale_y == 32 && view.left == 0 && view.top == 0);
  CHECK(view.pixels == resize_bicubic({1, 1, pixel}, view.size, one_by_one));
}

TEST("image: patches in merge order, each channel by channel with its time slices") {
  // 8 x 12 pixels, patches of 2 x 2, merged 2 x 2: two by three blocks. Red tells the row, green the column.
  const int64_t h = 8, w = 12;
  std::vector<uint8_t> rgb;
  for (int64_t y = 0; y < h; ++y)
    for (int64_t x = 0; x < w; ++x) rgb.insert(rgb.end(), {static_cast<uint8_t>(y), static_cast<uint8_t>(x), 99});
  QwenVlImage config = processor(2, 96, 96);
  config.mean = {0, 0, 0}, config.std = {1, 1, 1};
  const Patches p = patches_of(config.view({h, w, rgb.data()}, one_by_one), 2);
  const std::vector<float> values = config.rows().values(p);
  CHECK(p.grid_h == 4 && p.grid_w == 6);
  const std::vector<int32_t> flat = patch_positions(p.grid_h, p.grid_w, 2);
  CHECK(flat.size() == 2 * 24);
  std::vector<std::pair<int64_t, int64_t>> places;
  for (size_t i = 0; i < 24; ++i) places.emplace_back(flat[i], flat[24 + i]);
  const std::vector<std::pair<int64_t, int64_t>> first{{0, 0}, {0, 1}, {1, 0}, {1, 1}, {0, 2}};
  CHECK(std::equal(first.begin(), first.end(), places.begin()));
  bool right = true;
  for (size_t i = 0; i < places.size(); ++i)
    for (int64_t channel = 0; channel < 3; ++channel)
      for (int64_t time = 0; time < 2; ++time)
        for (int64_t y = 0; y < 2; ++y)
          for (int64_t x = 0; x < 2; ++x) {
            const int64_t row = places[i].first * 2 + y, column = places[i].second * 2 + x;
            const float value = static_cast<float>(channel == 0 ? row : channel == 1 ? column : 99) / 255.0f;
            right &= values[i * 24 + static_cast<size_t>(((channel * 2 + time) * 2 + y) * 2 + x)] == value;
          }
  CHECK(right);
  CHECK(config.token_grid({h, w}).tokens() == 6);
}

TEST("positions: text counts on, an image spreads, text goes on after the larger side") {
  const std::vector<int32_t> ids{5, 9, 9, 9, 9, 9, 9, 6, 7};
  const std::vector<TokenGrid> grids{{2, 3}};
  const Positions p = sequence_positions(ids, 9, grids, true);
  CHECK((p[0] == std::vector<int32_t>{0, 1, 1, 1, 1, 1, 1, 4, 5}));
  CHECK((p[1] == std::vector<int32_t>{0, 1, 1, 1, 2, 2, 2, 4, 5}));
  CHECK((p[2] == std::vector<int32_t>{0, 1, 2, 3, 1, 2, 3, 4, 5}));
  CHECK(next_position(p) == 6);
  // two images without a token between them
  const std::vector<TokenGrid> two{{1, 2}, {2, 2}};
  CHECK((sequence_positions(ids, 9, two, true)[2] == std::vector<int32_t>{0, 1, 2, 3, 4, 3, 4, 5, 6}));
  // an image that ends the sequence
  CHECK(next_position(sequence_positions(std::vector<int32_t>{9, 9}, 9, std::vector<TokenGrid>{{1, 2}}, true)) == 2);
  CHECK_ERROR(Code::invalid_argument, ("placeholder"), sequence_positions(ids, 9, {}, true));
  CHECK_ERROR(Code::invalid_argument, ("placeholder"),
              sequence_positions(ids, 9, std::vector<TokenGrid>{{3, 3}}, true));
  CHECK_ERROR(Code::invalid_argument, ("placeholder"),
              sequence_positions(ids, 9, std::vector<TokenGrid>{{2, 3}, {1, 1}}, true));
  CHECK_ERROR(Code::invalid_argument, ("placeholder"),
              sequence_positions(ids, 9, std::vector<TokenGrid>{{1, 3}}, true));
}
