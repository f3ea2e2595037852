// The JSON reader on what checkpoints hold and on what they must not.
#include "tensor/json.h"

#include <cmath>

#include "fixture.h"

using namespace fire;
using namespace fire::test;

namespace {

Json parse(std::string_view text) { return Json::parse(text, "x.json"); }

void refused(std::string_view text, const std::string& word) {
  CHECK_ERROR(Code::checkpoint, ("x.json", word), parse(text));
}

}  // namespace

TEST("json: values") {
  const Json j = parse(R"( {"a": [1, -2.5e3, true, false, null, "s"], "o": {"k": {}}, "e": []} )");
  const auto& a = j.at("a").array();
  CHECK(a.size() == 6 && a[0].integer() == 1 && a[1].number() == -2500 && a[2].boolean() && !a[3].boolean());
  CHECK(a[4].is_null() && a[5].string() == "s");
  CHECK(j.at("o").at("k").object().empty() && j.at("e").array().empty());
  CHECK(j.find("zzz") == nullptr && a[0].find("zzz") == nullptr);
  CHECK(j.object()[1].first == "o");  // order is kept
}

TEST("json: strings and escapes") {
  CHECK(parse(R"("\"\\\/\b\f\n\r\t")").string() == "\"\\/\b\f\n\r\t");
  CHECK(parse(R"("\u0041\u00e9\u20ac\ud83d\ude00")").string() == "A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
  CHECK(parse(R"("\u00E9")").string() == "\xC3\xA9");
  CHECK(parse(R"("a\u0000b")").string() == std::string("a\0b", 3));
  CHECK(parse("\"\xC3\xA9\"").string() == "\xC3\xA9");
  for (const char* bad :
       {R"("\x41")", R"("\u12")", R"("\u12g4")", R"("\u-123")", R"("\u+123")", R"("\u 123")", R"("\)", R"("\u)"})
    refused(bad, "escape");
  for (const char* lone : {R"("\ud800")", R"("\udc00")", R"("\ud800\ud800")", R"("\ud800x")", R"("\ud800\n")"})
    refused(lone, "surrogate");
  refused("\"abc", "unterminated");
  refused("\"a\nb\"", "control");
  refused(std::string_view("\"a\0b\"", 5), "control");
}

TEST("json: numbers") {
  CHECK(parse("0").number() == 0 && parse("-0").number() == 0 && std::signbit(parse("-0").number()));
  CHECK(parse("5e-324").number() > 0 && parse("1.7976931348623157e308").number() > 1e308);
  CHECK(parse("9007199254740992").integer() == 9007199254740992);
  CHECK_NEAR(parse("0.1").number(), 0.1, 0);
  for (const char* bad : {"1e400", "-1e400"}) refused(bad, "range");
  for (const char* bad : {"01", "-01", "00", "007.5"}) refused(bad, "leading zero");
  for (const char* bad : {"+1", ".5", "1.", "-", "1e", "1e+", "NaN", "Infinity", "0x10", "1_000"}) refused(bad, "");
  CHECK_ERROR(Code::checkpoint, ("integer"), parse("1.5").integer());
  CHECK_ERROR(Code::checkpoint, ("integer"), parse("1e300").integer());
  CHECK_ERROR(Code::checkpoint, ("integer"), parse("9007199254740994").integer());
}

TEST("json: documents that are not JSON") {
  for (const char* bad : {"", "  ", "{", "[", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "[1", "[1,", "tru", "nul"})
    refused(bad, "");
  for (const char* bad : {"{a:1}", "{'a':1}", "{\"a\" 1}", "{\"a\":1,}", "[1,]", "[1 2]", "{,}", "1 2", "{} x",
                          "//c\n1", "\xEF\xBB\xBF{}"})
    refused(bad, "");
  refused(std::string_view("{}\0", 3), "after the end");
  refused("[1]\n\n  x", "line 3");
}

TEST("json: duplicate keys and deep nesting are refused") {
  refused(R"({"shard": "a", "b": {"c": 1, "c": 2}})", "\"c\"");
  refused(R"({"a": 1, "\u0061": 2})", "\"a\"");  // the same key, spelt twice
  auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  CHECK(parse(nested(64)).type() == Json::Type::array);
  refused(nested(66), "nested");
  refused(std::string(1000000, '['), "nested");
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  refused(objects, "nested");
}

TEST("json: a wrong type names the place") {
  const Json j = parse(R"({"text_config": {"layers": [4, "x"]}})");
  CHECK_ERROR(Code::checkpoint, ("x.json", "text_config.layers[1]", "a number", "a string"),
              j.at("text_config").at("layers").array()[1].number());
  CHECK_ERROR(Code::checkpoint, ("text_config", "a string", "an object"), j.at("text_config").string());
  CHECK_ERROR(Code::checkpoint, ("x.json", "\"vision_config\""), j.at("vision_config"));
  CHECK_ERROR(Code::checkpoint, ("an object"), j.at("text_config").at("layers").at("k"));
  CHECK_ERROR(Code::checkpoint, ("true or false"), parse("1").boolean());
  CHECK_ERROR(Code::checkpoint, ("an array"), parse("{}").array());
}

TEST("json: files") {
  TempDir dir;
  CHECK_ERROR(Code::io, ("absent.json"), Json::load(dir / "absent.json"));
  write_file(dir / "a.json", {"{\"k\": ", "1}"});
  CHECK(Json::load(dir / "a.json").at("k").integer() == 1);
  CHECK_ERROR(Code::io, ("a.json", "8 bytes"), Json::load(dir / "a.json", 7));
  CHECK_ERROR(Code::io, ("regular file"), Json::load(dir.path()));
}

TEST("json: quoting round trip") {
  std::string all;
  for (int c = 0; c < 128; ++c) all += static_cast<char>(c);
  all += "\xC3\xA9";
  CHECK(parse(json_quote(all)).string() == all);
}

TEST("json: large objects") {
  std::string text = "{";
  const int count = 200000;
  for (int i = 0; i < count; ++i) text += (i ? ",\"k" : "\"k") + std::to_string(i) + "\":" + std::to_string(i);
  const Json j = parse(text + "}");
  CHECK(j.object().size() == count && j.object()[7].first == "k7");
  // A search through all of them for each would be 4e10 comparisons.
  int64_t sum = 0;
  for (int i = 0; i < count; ++i) sum += j.at("k" + std::to_string(i)).integer();
  CHECK(sum == int64_t{count} * (count - 1) / 2 && j.find("k200000") == nullptr && j.find("") == nullptr);
  CHECK_ERROR(Code::checkpoint, ("x.json", "k12 ", "a string"), j.at("k12").string());
  refused(text + ",\"k5\":1}", "\"k5\"");
}

TEST("json: what would take too much memory is refused") {
  std::string items = "[0";
  for (int i = 0; i < 2000000; ++i) items += ",0";
  refused(items + "]", "more than 2000000 values");
  // Each path names its parents: together they would be 20 GB.
  std::string names = "{\"" + std::string(1000000, 'n') + "\":[0";
  for (int i = 0; i < 20000; ++i) names += ",0";
  const Json j = parse(names + "]}");
  CHECK(j.object()[0].second.array()[20000].path().size() < 1000);
}
