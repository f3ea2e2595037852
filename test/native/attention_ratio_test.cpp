// The attention ratio on the golden cases of `evaluate`, in the convention of the published script.
#include "infer/attention_ratio.h"

#include "fixture.h"
#include "tensor/json.h"

using namespace fire;
using namespace fire::test;

namespace {

// [heads, tokens] in a row.
std::vector<float> flat(const Json& heads) {
  std::vector<float> values;
  for (const Json& row : heads.array())
    for (const Json& value : row.array()) values.push_back(static_cast<float>(value.number()));
  return values;
}

}  // namespace

TEST("attention ratio: golden cases, any overlap, as upstream") {
  const Json golden = Json::load(std::string(FIRE_TEST_DIR) + "/evaluate/golden/grounding.json");
  int measured = 0;
  for (const Json& each : golden.at("cases").array()) {
    std::vector<int64_t> truth;
    for (const Json& token : each.at("tokens").array()) truth.push_back(token.integer());
    const auto& layers = each.at("layers").array();
    const auto& expected = each.at("expected").array();
    const auto tokens =
        static_cast<size_t>(each.at("grid").at("rows").integer() * each.at("grid").at("columns").integer());
    for (size_t i = 0; i < layers.size(); ++i) {
      const Json* upstream = expected[i].at("anyOverlap").find("upstream");
      if (!upstream) continue;
      const AttentionRatio found =
          attention_ratio(flat(layers[i].at("question")), flat(layers[i].at("general")), tokens, truth);
      // Weights are f32 here, f64 there.
      CHECK_NEAR(found.ratio, upstream->at("ar").number(), 1e-6);
      CHECK_NEAR(found.kl, upstream->at("kl").number(), 1e-6);
      CHECK_NEAR(found.js, upstream->at("js").number(), 1e-6);
      measured += 1;
    }
  }
  CHECK(measured >= 8);
}
