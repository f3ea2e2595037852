#include "tensor/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "tensor/error.h"
#include "tensor/file.h"

namespace fire {

/// A step from the document to a value: a name under `parent`, which is null for the document itself.
struct Json::Place {
  std::shared_ptr<const Place> parent;
  std::string step;  // "file.json:", "key" or "[3]"
};

class JsonParser {
 public:
  JsonParser(std::string_view text, std::string origin) : text_(text), origin_(std::move(origin)) {}

  Json document() {
    Json value = parse_value(nullptr, origin_ + ":", 0);
    skip_space();
    if (at_ != text_.size()) fail("text after the end of the document");
    return value;
  }

 private:
  static constexpr int max_depth = 64;
  /// A checkpoint of 200,000 tensors has fewer; so many take about half a gigabyte.
  static constexpr int max_values = 2'000'000;
  /// From here on an object is searched by halving.
  static constexpr size_t large = 16;

  Json parse_value(std::shared_ptr<const Json::Place> parent, std::string step, int depth) {
    if (depth > max_depth) fail("nested deeper than 64 levels");
    if (++values_ > max_values) fail("more than " + std::to_string(max_values) + " values");
    skip_space();
    if (at_ == text_.size()) fail("unexpected end");
    Json value;
    value.place_ = std::make_shared<const Json::Place>(Json::Place{std::move(parent), std::move(step)});
    const char c = text_[at_];
    if (c == '{') {
      parse_object(value, depth);
    } else if (c == '[') {
      parse_array(value, depth);
    } else if (c == '"') {
      value.type_ = Json::Type::string;
      value.string_ = parse_string();
    } else if (take("true")) {
      value.type_ = Json::Type::boolean;
      value.boolean_ = true;
    } else if (take("false")) {
      value.type_ = Json::Type::boolean;
    } else if (!take("null")) {
      value.type_ = Json::Type::number;
      value.number_ = parse_number();
    }
    return value;
  }

  void parse_object(Json& value, int depth) {
    value.type_ = Json::Type::object;
    parse_items('}', [&] {
      skip_space();
      if (at_ == text_.size() || text_[at_] != '"') fail("expected a key in quotes");
      std::string key = parse_string();
      skip_space();
      if (!peek(':')) fail("expected ':' after \"" + key + "\"");
      Json member = parse_value(value.place_, key, depth + 1);
      value.object_.emplace_back(std::move(key), std::move(member));
    });
    std::vector<uint32_t> order(value.object_.size());
    std::iota(order.begin(), order.end(), 0);
    const auto key = [&](uint32_t i) -> const std::string& { return value.object_[i].first; };
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return key(a) < key(b); });
    const auto twice =
        std::adjacent_find(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return key(a) == key(b); });
    if (twice != order.end()) fail("key \"" + key(*twice) + "\" stands twice");
    if (order.size() >= large) value.by_key_ = std::move(order);
  }

  void parse_array(Json& value, int depth) {
    value.type_ = Json::Type::array;
    parse_items(']', [&] {
      value.array_.push_back(parse_value(value.place_, "[" + std::to_string(value.array_.size()) + "]", depth + 1));
    });
  }

  /// From the opening bracket to `close`; `parse_item` takes what stands between two commas.
  template <class F>
  void parse_items(char close, F&& parse_item) {
    ++at_;
    skip_space();
    if (peek(close)) return;
    for (;;) {
      parse_item();
      skip_space();
      if (peek(close)) return;
      if (!peek(',')) fail(std::string("expected ',' or '") + close + "'");
    }
  }

  std::string parse_string() {
    std::string out;
    ++at_;
    for (;;) {
      if (at_ == text_.size()) fail("unterminated string");
      const unsigned char c = static_cast<unsigned char>(text_[at_++]);
      if (c == '"') return out;
      if (c < 0x20) fail("control character in a string");
      if (c != '\\') {
        out += static_cast<char>(c);
        continue;
      }
      if (at_ == text_.size()) fail("unterminated escape");
      switch (text_[at_++]) {
        case '"':
          out += '"';
          break;
        case '\\':
          out += '\\';
          break;
        case '/':
          out += '/';
          break;
        case 'b':
          out += '\b';
          break;
        case 'f':
          out += '\f';
          break;
        case 'n':
          out += '\n';
          break;
        case 'r':
          out += '\r';
          break;
        case 't':
          out += '\t';
          break;
        case 'u':
          append_utf8(out, parse_code_point());
          break;
        default:
          fail("unknown escape");
      }
    }
  }

  uint32_t parse_code_point() {
    const uint32_t first = parse_hex4();
    if (first < 0xD800 || first > 0xDFFF) return first;
    if (first > 0xDBFF || !take("\\u")) fail("lone surrogate");
    const uint32_t second = parse_hex4();
    if (second < 0xDC00 || second > 0xDFFF) fail("lone surrogate");
    return 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
  }

  uint32_t parse_hex4() {
    uint32_t value = 0;
    if (text_.size() - at_ < 4) fail("unterminated escape");
    const auto [end, status] = std::from_chars(text_.data() + at_, text_.data() + at_ + 4, value, 16);
    if (status != std::errc() || end != text_.data() + at_ + 4) fail("bad \\u escape");
    at_ += 4;
    return value;
  }

  static void append_utf8(std::string& out, uint32_t c) {
    if (c < 0x80) {
      out += static_cast<char>(c);
    } else if (c < 0x800) {
      out += static_cast<char>(0xC0 | c >> 6);
      out += static_cast<char>(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
      out += static_cast<char>(0xE0 | c >> 12);
      out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
      out += static_cast<char>(0x80 | (c & 0x3F));
    } else {
      out += static_cast<char>(0xF0 | c >> 18);
      out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
      out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
      out += static_cast<char>(0x80 | (c & 0x3F));
    }
  }

  double parse_number() {
    const size_t begin = at_;
    auto digits = [&] {
      const size_t from = at_;
      while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
      if (at_ == from) fail("unexpected character");
    };
    peek('-');
    const bool leading_zero = at_ < text_.size() && text_[at_] == '0';
    const size_t first = at_;
    digits();
    if (leading_zero && at_ - first > 1) fail("number with a leading zero");
    if (peek('.')) digits();
    if (peek('e') || peek('E')) {
      if (!peek('+')) peek('-');
      digits();
    }
    double value = 0;
    const auto [end, status] = std::from_chars(text_.data() + begin, text_.data() + at_, value);
    if (status != std::errc() || end != text_.data() + at_) fail("number out of range");
    return value;
  }

  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
      ++at_;
  }
  bool peek(char c) {
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  [[noreturn]] void fail(const std::string& why) const {
    size_t line = 1;
    for (size_t i = 0; i < at_ && i < text_.size(); ++i) line += text_[i] == '\n';
    throw Error(Code::checkpoint, origin_ + " is not valid JSON: " + why + " (line " + std::to_string(line) +
                                      ", byte " + std::to_string(at_) + ")")
        .with("path", origin_);
  }

  std::string_view text_;
  std::string origin_;
  size_t at_ = 0;
  int values_ = 0;
};

Json Json::parse(std::string_view text, const std::string& origin) { return JsonParser(text, origin).document(); }

Json Json::load(const std::string& path, size_t max_bytes) { return parse(read_file(path, max_bytes), path); }

void Json::wrong_type(const char* expected) const {
  static const char* names[] = {"null", "a boolean", "a number", "a string", "an array", "an object"};
  throw Error(Code::checkpoint, path() + " must be " + expected + ", not " + names[static_cast<int>(type_)]);
}

std::string Json::path() const {
  std::vector<const Place*> steps;
  for (const Place* place = place_.get(); place; place = place->parent.get()) steps.push_back(place);
  std::string path;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    const std::string& name = (*step)->step;
    if (!path.empty() && name[0] != '[') path += path.back() == ':' ? " " : ".";
    path += name.substr(0, 200);
  }
  return path;
}

bool Json::boolean() const {
  if (type_ != Type::boolean) wrong_type("true or false");
  return boolean_;
}

double Json::number() const {
  if (type_ != Type::number) wrong_type("a number");
  return number_;
}

int64_t Json::integer() const {
  const double value = number();
  if (value != std::floor(value) || std::abs(value) > 9007199254740992.0) wrong_type("an integer");
  return static_cast<int64_t>(value);
}

const std::string& Json::string() const {
  if (type_ != Type::string) wrong_type("a string");
  return string_;
}

const std::vector<Json>& Json::array() const {
  if (type_ != Type::array) wrong_type("an array");
  return array_;
}

const std::vector<std::pair<std::string, Json>>& Json::object() const {
  if (type_ != Type::object) wrong_type("an object");
  return object_;
}

const Json* Json::find(std::string_view key) const {
  if (!by_key_.empty()) {
    const auto at = std::lower_bound(by_key_.begin(), by_key_.end(), key,
                                     [&](uint32_t i, std::string_view wanted) { return object_[i].first < wanted; });
    return at != by_key_.end() && object_[*at].first == key ? &object_[*at].second : nullptr;
  }
  for (const auto& [name, value] : object_)
    if (name == key) return &value;
  return nullptr;
}

const Json& Json::at(std::string_view key) const {
  if (type_ != Type::object) wrong_type("an object");
  if (const Json* value = find(key)) return *value;
  throw Error(Code::checkpoint, path() + " lacks the key \"" + std::string(key) + "\"");
}

std::string json_quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char buffer[8];
      std::snprintf(buffer, sizeof buffer, "\\u%04x", c);
      out += buffer;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

}  // namespace fire
