#include "verify/golden.h"

#include <algorithm>

#include "tensor/json.h"

namespace fire {
namespace {

/// The token that stands for an image row in the stored prompts. Where the published model has none, the folder has the
/// prompt a second time with -200 for each image: the token that takes its place there.
int64_t stored_placeholder(const Golden& golden) {
  if (!golden.has("item0.prompt_ids_sentinel")) return golden.image_token_id;
  const std::vector<int64_t> short_ids = golden.integers("item0.prompt_ids_sentinel");
  const std::vector<int64_t> ids = golden.integers("item0.prompt_ids");
  const size_t at = static_cast<size_t>(std::find(short_ids.begin(), short_ids.end(), -200) - short_ids.begin());
  return at < ids.size() ? ids[at] : golden.image_token_id;
}

/// u8 [height, width, 3].
const Tensor& read_image(const Golden& golden, const std::string& name) {
  const Tensor& rgb = golden.file.at(name);
  if (rgb.dtype() != DType::u8 || rgb.rank() != 3 || rgb.dim(2) != 3)
    golden.fail(name, "is " + rgb.describe() + ", expected u8[height, width, 3]");
  check_image_size({rgb.dim(0), rgb.dim(1)});
  return rgb;
}

GoldenImage load_image(const Golden& golden, const std::string& id) {
  const Tensor &rgb = read_image(golden, id + ".rgb"), &corrupt = read_image(golden, id + ".rgb_corrupt");
  if (corrupt.dim(0) != rgb.dim(0) || corrupt.dim(1) != rgb.dim(1))
    golden.fail(id + ".rgb_corrupt", "is " + corrupt.describe() + ", its original is " + rgb.describe());
  return {id, id + ".corrupt", rgb.dim(0), rgb.dim(1), rgb, corrupt};
}

GoldenItem load_item(const Golden& golden, const std::string& name) {
  GoldenItem item;
  item.name = name;
  for (int i = 0; golden.has(name + ".image" + std::to_string(i) + ".rgb"); ++i) {
    item.images.push_back(load_image(golden, name + ".image" + std::to_string(i)));
    item.pair.images.push_back(item.images.back().id);
    item.pair.corrupted_images.push_back(item.images.back().corrupted_id);
  }
  item.pair.id = name;
  item.pair.prompt = golden.tokens(name + ".prompt_ids");
  const std::ptrdiff_t prompt = static_cast<std::ptrdiff_t>(item.pair.prompt.size());
  auto answer = [&](const std::string& side, std::vector<int32_t>& ids, std::vector<uint8_t>& mask) {
    const std::string sequence = name + "." + side;
    const std::vector<int32_t> all = golden.tokens(sequence + ".input_ids");
    if (static_cast<std::ptrdiff_t>(all.size()) <= prompt ||
        !std::equal(item.pair.prompt.begin(), item.pair.prompt.end(), all.begin()))
      golden.fail(sequence + ".input_ids", "does not continue the prompt");
    ids.assign(all.begin() + prompt, all.end());
    const std::vector<int64_t> phrases = golden.integers(sequence + ".phrase_mask", static_cast<int64_t>(all.size()));
    mask.assign(phrases.begin() + prompt, phrases.end());
  };
  answer("chosen", item.pair.chosen, item.pair.chosen_mask);
  answer("rejected", item.pair.rejected, item.pair.rejected_mask);
  return item;
}

}  // namespace

void Golden::fail(const std::string& name, const std::string& why) const {
  throw Error(Code::checkpoint, file.origin() + ": \"" + name + "\" " + why).with("tensor", name);
}

const Tensor& Golden::floats(const std::string& name, int64_t size) const {
  const Tensor& t = file.at(name);
  if (t.dtype() != DType::f32) fail(name, "is " + t.describe() + ", expected f32");
  if (size != any_size && t.size() != size)
    fail(name, "has " + std::to_string(t.size()) + " values, expected " + std::to_string(size));
  return t;
}

std::vector<int64_t> Golden::integers(const std::string& name, int64_t size) const {
  const Tensor& t = file.at(name);
  if (size != any_size && t.size() != size)
    fail(name, "has " + std::to_string(t.size()) + " values, expected " + std::to_string(size));
  const auto copy = [&](auto* values) { return std::vector<int64_t>(values, values + t.size()); };
  if (t.dtype() == DType::i64) return copy(static_cast<const int64_t*>(t.data()));
  if (t.dtype() == DType::i32) return copy(t.i32());
  if (t.dtype() == DType::u8) return copy(static_cast<const uint8_t*>(t.data()));
  fail(name, "is " + t.describe() + ", expected integers");
}

std::vector<int32_t> Golden::tokens(const std::string& name) const {
  std::vector<int32_t> ids;
  for (const int64_t id : integers(name)) {
    if (id != static_cast<int32_t>(id)) fail(name, "holds " + std::to_string(id) + ", which is no token");
    ids.push_back(static_cast<int32_t>(id == stored_image_token_id ? image_token_id : id));
  }
  return ids;
}

std::vector<int32_t> GoldenItem::ids(bool chosen) const {
  std::vector<int32_t> all = pair.prompt;
  const auto& answer = chosen ? pair.chosen : pair.rejected;
  all.insert(all.end(), answer.begin(), answer.end());
  return all;
}

Golden Golden::load(const std::string& directory, int64_t image_token_id) {
  const std::string path = directory + "/golden.safetensors";
  if (!file_exists(path))
    throw Error(Code::checkpoint, directory + " is not a golden folder: it lacks golden.safetensors")
        .with("path", path);
  Golden golden;
  golden.file = SafeTensors::open_file(path);
  golden.image_token_id = image_token_id;
  golden.stored_image_token_id = stored_placeholder(golden);
  for (int k = 0; golden.file.find("item" + std::to_string(k) + ".prompt_ids"); ++k)
    golden.items.push_back(load_item(golden, "item" + std::to_string(k)));
  if (golden.items.empty()) throw Error(Code::checkpoint, path + " holds no item0.prompt_ids");

  const Json json = Json::load(directory + "/golden.json");
  const Json& hyper = json.at("hyper");
  auto number = [&](const char* key) { return hyper.at(key).number(); };
  const auto& betas = hyper.at("betas").array();
  if (betas.size() != 2) throw Error(Code::checkpoint, hyper.at("betas").path() + " must have 2 entries");
  golden.objective = {"fire", number("beta"), number("alpha"), number("gamma"), number("lam"), KlReduction::sum};
  golden.optimizer = {number("lr"), betas[0].number(), betas[1].number(), number("eps"), number("wd"), 0};
  const Json* noise = json.find("noise");
  const Json* bf16 = noise ? noise->find("eager_bf16") : nullptr;
  if (const Json* gradients = bf16 ? bf16->find("grad_max_rel_l2") : nullptr)
    golden.bf16_gradient_noise = gradients->number();
  if (const Json* table = json.find("smart_resize_h_w_min_max_outh_outw"))
    for (const Json& line : table->array()) {
      golden.smart_resize.emplace_back();
      for (const Json& value : line.array()) golden.smart_resize.back().push_back(value.integer());
      const std::vector<int64_t>& row = golden.smart_resize.back();
      if (row.size() != 6 || std::any_of(row.begin(), row.end(), [](int64_t n) { return n < 1 || n > INT32_MAX; }))
        throw Error(Code::checkpoint, line.path() + " must have 6 positive sizes");
    }
  return golden;
}

}  // namespace fire
