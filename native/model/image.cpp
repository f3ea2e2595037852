#include "model/image.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "model/resample.h"
#include "tensor/error.h"

namespace fire {

void check_image_size(Size size) {
  const std::string name = "an image of " + std::to_string(size.width) + "x" + std::to_string(size.height) + " pixels";
  if (size.height <= 0 || size.width <= 0) throw Error(Code::invalid_argument, name + " is empty");
  if (size.height > 65536 || size.width > 65536)
    throw Error(Code::unsupported, name + " is too large; a side has at most 65536");
}

Patches patches_of(View view, int64_t side) {
  return {view.size.height / side, view.size.width / side, std::move(view.pixels)};
}

std::vector<uint8_t> resize_bicubic(const Rgb& image, Size to, const Spread& spread) {
  return resize_bicubic(image, to, {0, 0, to.height, to.width}, spread);
}

std::vector<uint8_t> resize_bicubic(const Rgb& image, Size to, const Window& window, const Spread& spread) {
  const int64_t line = window.width * 3;
  std::vector<uint8_t> narrow(static_cast<size_t>(image.height * line));
  resample_lines(image.pixels, image.height, image.width, make_taps(image.width, to.width, window.left, window.width),
                 narrow.data(), spread);
  std::vector<uint8_t> result(static_cast<size_t>(window.height * line));
  resample_columns(narrow.data(), line, make_taps(image.height, to.height, window.top, window.height), result.data(),
                   spread);
  return result;
}

std::vector<uint8_t> resize_padded(const Rgb& image, std::array<uint8_t, 3> fill, int64_t side, const Window& window,
                                   const Spread& spread) {
  const int64_t square = std::max(image.height, image.width), line = window.width * 3;
  const int64_t left = (square - image.width) / 2, top = (square - image.height) / 2;
  // Rows above and below the image stay what they are filled with: the weights of a filter sum to one. In the others
  // the filling left and right adds the same to every row.
  std::vector<uint8_t> narrow(static_cast<size_t>(square * line));
  for (size_t i = 0; i < narrow.size(); ++i) narrow[i] = fill[i % 3];
  std::vector<Taps> columns = make_taps(square, side, window.left, window.width);
  for (Taps& t : columns) {
    const int64_t end = t.begin + static_cast<int64_t>(t.weights.size());
    const int64_t first = std::clamp(left, t.begin, end), last = std::clamp(left + image.width, t.begin, end);
    const auto at = [&](int64_t place) { return t.weights.begin() + (place - t.begin); };
    const int32_t outside = std::accumulate(at(t.begin), at(first), 0) + std::accumulate(at(last), at(end), 0);
    for (size_t c = 0; c < 3; ++c) t.start[c] += outside * fill[c];
    t.weights = {at(first), at(last)};
    t.begin = t.weights.empty() ? 0 : first - left;
  }
  resample_lines(image.pixels, image.height, image.width, columns, narrow.data() + top * line, spread);
  std::vector<uint8_t> result(static_cast<size_t>(window.height * line));
  resample_columns(narrow.data(), line, make_taps(square, side, window.top, window.height), result.data(), spread);
  return result;
}

}  // namespace fire
