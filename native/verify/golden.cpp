#include "verify/golden.h"

#include <algorithm>

#include "tensor/json.h"

namespace fire {
namespace {

std::vector<uint8_t> mask_of(const Tensor& t, size_t from) {
  const std::vector<int64_t> all = integers(t);
  return {all.begin() + static_cast<std::ptrdiff_t>(from), all.end()};
}

/// The token that stands for an image row in the stored prompts. Where the published model has none, the folder has the
/// prompt a second time with -200 for each image: the token that takes its place there.
int64_t stored_placeholder(const SafeTensors& file, int64_t image_token_id) {
  const Tensor* sentinels = file.find("item0.prompt_ids_sentinel");
  if (!sentinels) return image_token_id;
  const std::vector<int64_t> short_ids = integers(*sentinels), ids = integers(file.at("item0.prompt_ids"));
  const size_t at = static_cast<size_t>(std::find(short_ids.begin(), short_ids.end(), -200) - short_ids.begin());
  return at < ids.size() ? ids[at] : image_token_id;
}

GoldenItem load_item(const Golden& golden, const std::string& name) {
  const SafeTensors& file = golden.file;
  GoldenItem item;
  item.name = name;
  for (int i = 0;; ++i) {
    const std::string image = name + ".image" + std::to_string(i);
    const Tensor* rgb = file.find(image + ".rgb");
    if (!rgb) break;
    item.images.push_back({image, image + ".corrupt", rgb->dim(0), rgb->dim(1), *rgb, file.at(image + ".rgb_corrupt")});
    item.pair.images.push_back(image);
    item.pair.corrupted_images.push_back(image + ".corrupt");
  }
  item.pair.id = name;
  item.pair.prompt = golden.prompt(file.at(name + ".prompt_ids"));
  const size_t prompt = item.pair.prompt.size();
  auto answer = [&](const std::string& side, std::vector<int32_t>& ids, std::vector<uint8_t>& mask) {
    const std::vector<int32_t> all = golden.prompt(file.at(name + "." + side + ".input_ids"));
    if (all.size() <= prompt || !std::equal(item.pair.prompt.begin(), item.pair.prompt.end(), all.begin()))
      throw Error(Code::checkpoint,
                  file.origin() + ": " + name + "." + side + ".input_ids does not continue the prompt");
    ids.assign(all.begin() + static_cast<std::ptrdiff_t>(prompt), all.end());
    mask = mask_of(file.at(name + "." + side + ".phrase_mask"), prompt);
  };
  answer("chosen", item.pair.chosen, item.pair.chosen_mask);
  answer("rejected", item.pair.rejected, item.pair.rejected_mask);
  return item;
}

}  // namespace

std::vector<int64_t> integers(const Tensor& t) {
  std::vector<int64_t> out(static_cast<size_t>(t.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    if (t.dtype() == DType::i64) {
      out[i] = static_cast<const int64_t*>(t.data())[i];
    } else if (t.dtype() == DType::i32) {
      out[i] = t.i32()[i];
    } else if (t.dtype() == DType::u8) {
      out[i] = static_cast<const uint8_t*>(t.data())[i];
    } else {
      throw Error(Code::checkpoint, "expected a tensor of integers, got " + t.describe());
    }
  }
  return out;
}

std::vector<int32_t> token_ids(const Tensor& t) {
  const std::vector<int64_t> wide = integers(t);
  return {wide.begin(), wide.end()};
}

std::vector<int32_t> GoldenItem::ids(bool chosen) const {
  std::vector<int32_t> all = pair.prompt;
  const auto& answer = chosen ? pair.chosen : pair.rejected;
  all.insert(all.end(), answer.begin(), answer.end());
  return all;
}

std::vector<int32_t> Golden::prompt(const Tensor& stored) const {
  std::vector<int32_t> ids = token_ids(stored);
  std::replace(ids.begin(), ids.end(), static_cast<int32_t>(stored_image_token_id),
               static_cast<int32_t>(image_token_id));
  return ids;
}

Golden Golden::load(const std::string& directory, int64_t image_token_id) {
  const std::string path = directory + "/golden.safetensors";
  if (!file_exists(path))
    throw Error(Code::checkpoint, directory + " is not a golden folder: it lacks golden.safetensors")
        .with("path", path);
  Golden golden;
  golden.file = SafeTensors::open_file(path);
  golden.image_token_id = image_token_id;
  golden.stored_image_token_id = stored_placeholder(golden.file, image_token_id);
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
    }
  return golden;
}

}  // namespace fire
