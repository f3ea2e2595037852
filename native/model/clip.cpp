#include "model/clip.h"

#include <algorithm>

#include "model/config_reader.h"
#include "model/vision_block.h"
#include "tensor/error.h"

namespace fire {
namespace {

using namespace config;

/// Of an image that a tower eats, in pixels.
constexpr int64_t max_side = 4096;

class Tower final : public VisionTower {
 public:
  Tower(Ops& ops, const ClipConfig& config, const ClipNames& names, Claims& claims)
      : ops_(ops), config_(config), rows_(config.rows()) {
    const ClipConfig& c = config_;
    const int64_t width = c.hidden_size;
    const std::string prefix = claims.prefix_of("pre_layrnorm.weight", names.towers);  // the published spelling
    const std::string embeddings = prefix + "embeddings.";
    class_embedding_ = claims.take_as(embeddings + "class_embedding", {width}, {1, width});
    patch_embedding_ = claims.take_as(embeddings + "patch_embedding.weight", {width, 3, c.patch_size, c.patch_size},
                                      {width, rows_.length()});
    position_embedding_ = claims.take(embeddings + "position_embedding.weight", {c.side() * c.side() + 1, width});
    pre_norm_ = claims.layer_norm(prefix + "pre_layrnorm", width);
    for (int64_t i = 0; i < c.depth; ++i) {
      const std::string layer = prefix + "encoder.layers." + std::to_string(i) + ".", attention = layer + "self_attn.";
      blocks_.push_back(
          {claims.layer_norm(layer + "layer_norm1", width),
           {claims.linear(attention + "q_proj", width, width), claims.linear(attention + "k_proj", width, width),
            claims.linear(attention + "v_proj", width, width), claims.linear(attention + "out_proj", width, width)},
           claims.layer_norm(layer + "layer_norm2", width),
           claims.linear(layer + "mlp.fc1", c.intermediate_size, width),
           claims.linear(layer + "mlp.fc2", width, c.intermediate_size)});
    }
    claims.layer_norm(prefix + "post_layernorm", width);  // CLIP's own head; LLaVA never comes to it

    const auto stored = std::find_if(names.projectors.begin(), names.projectors.end(),
                                     [&](const auto& names) { return claims.has(names[0] + ".weight"); });
    const auto& projector = stored == names.projectors.end() ? names.projectors.front() : *stored;
    projector_[0] = claims.linear(projector[0], c.out_hidden_size, width);
    projector_[1] = claims.linear(projector[1], c.out_hidden_size, c.out_hidden_size);
  }

  void encode(std::span<const Patches* const> images, std::span<ImageFeatures* const> features, Arena& arena,
              const Observer* observer) const override {
    Arena::Scope scope(arena);
    // Each image is its class token and then its patches; all have as many.
    const int64_t count = static_cast<int64_t>(images.size()), tokens = images[0]->count(), each = tokens + 1;
    const int64_t width = config_.hidden_size, rows = count * each;
    std::vector<int32_t> patch_rows;
    for (int64_t i = 0; i < rows; ++i)
      if (i % each != 0) patch_rows.push_back(static_cast<int32_t>(i));
    const Tensor to_patches = ops_.upload_i32(arena, patch_rows);
    Tensor embedded = ops_.activation(arena, {rows, width}), x = ops_.activation(arena, {rows, width});
    embed(images, to_patches, embedded, arena);
    observe(observer, "vision.embeddings", embedded);
    ops_.layer_norm(embedded, pre_norm_.weight, pre_norm_.bias, config_.layer_norm_eps, x);
    observe(observer, "vision.pre_layernorm", x);

    const AttentionPlan within = attend_within(std::vector<int64_t>(images.size(), each));
    const PreparedPlan plan = ops_.prepare(within, arena);
    const VisionBlockKind kind{config_.heads, config_.layer_norm_eps, Gelu::quick};
    const auto run_blocks = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        run_block(ops_, kind, blocks_[static_cast<size_t>(i)], nullptr, plan, arena, x);
        observe(observer, "vision.layer_out." + std::to_string(i), x);
      }
    };
    run_blocks(0, config_.blocks_used);
    {
      Arena::Scope inner(arena);
      const Tensor selected = ops_.activation(arena, {count * tokens, width});
      ops_.gather_rows(x, to_patches, selected);  // without the class tokens
      observe(observer, "vision.selected", selected);
      const Tensor hidden = ops_.activation(arena, {count * tokens, config_.out_hidden_size});
      const Tensor projected = ops_.activation(arena, {count * tokens, config_.out_hidden_size});
      ops_.linear(selected, projector_[0].weight, projector_[0].bias, {}, hidden);
      ops_.gelu(hidden, Gelu::erf);
      ops_.linear(hidden, projector_[1].weight, projector_[1].bias, {}, projected);
      share_rows(ops_, projected, features, [](ImageFeatures& f) { return f.merged; });
    }
    observe(observer, "vision.projected", features[0]->merged);
    // Nothing reads the blocks behind the selected state; who observes may want to hold them against a reference.
    if (observer) run_blocks(config_.blocks_used, config_.depth);
  }

 private:
  void embed(std::span<const Patches* const> images, const Tensor& to_patches, Tensor out, Arena& arena) const {
    Arena::Scope scope(arena);
    const int64_t rows = out.rows(), each = images[0]->count() + 1, width = config_.hidden_size;
    // The class embedding goes everywhere, and the patches over it.
    ops_.embedding(ops_.upload_i32(arena, std::vector<int32_t>(static_cast<size_t>(rows))), class_embedding_, out);
    const Tensor patches = ops_.activation(arena, {to_patches.size(), width});
    ops_.linear(rows_.upload(ops_, arena, images), patch_embedding_, {}, {}, patches);
    ops_.scatter_rows(patches, to_patches, out);
    std::vector<int32_t> index;
    for (int64_t i = 0; i < rows; ++i) index.push_back(static_cast<int32_t>(i % each));
    const Tensor positions = ops_.activation(arena, {rows, width});
    ops_.embedding(ops_.upload_i32(arena, index), position_embedding_, positions);
    ops_.add(positions, out);
  }

  Ops& ops_;
  const ClipConfig config_;
  const PatchRows rows_;
  Tensor class_embedding_, patch_embedding_, position_embedding_;
  LinearWeights pre_norm_;
  std::vector<VisionBlock> blocks_;
  std::array<LinearWeights, 2> projector_;
};

class Spec final : public VisionSpec {
 public:
  Spec(const ClipConfig& config, const ClipNames& names) : config_(config), names_(names) {}

  View view(const Rgb& image, const Spread& spread) const override {
    check_image_size({image.height, image.width});
    return config_.image.pad_to_square ? padded(image, spread) : cropped(image, spread);
  }
  std::string preprocessing() const override {
    const ClipImage& c = config_.image;
    std::string name = "clip";
    for (const int64_t value : {c.shortest_edge, c.crop, config_.patch_size}) name += " " + std::to_string(value);
    if (c.pad_to_square)
      for (const uint8_t value : fill()) name += " " + std::to_string(value);
    return name;
  }
  PatchRows rows() const override { return config_.rows(); }

  TokenGrid token_grid(Size image) const override {
    check_image_size(image);
    return {config_.side(), config_.side()};
  }

  Patches blank(int64_t) const override { return {config_.side(), config_.side(), {}}; }

  std::unique_ptr<VisionTower> load(Claims& claims, Ops& ops) const override {
    return std::make_unique<Tower>(ops, config_, names_, claims);
  }

 private:
  View cropped(const Rgb& image, const Spread& spread) const {
    const ClipImage& c = config_.image;
    const auto scaled = [&](int64_t longer, int64_t shorter) { return c.shortest_edge * longer / shorter; };
    const Size to = image.height < image.width ? Size{c.shortest_edge, scaled(image.width, image.height)}
                                               : Size{scaled(image.height, image.width), c.shortest_edge};
    const Window window = centered(to, c.crop);
    return {{c.crop, c.crop},
            resize_bicubic(image, to, window, spread),
            static_cast<double>(to.height) / static_cast<double>(image.height),
            static_cast<double>(to.width) / static_cast<double>(image.width),
            static_cast<double>(-window.top),
            static_cast<double>(-window.left)};
  }

  /// What padding is made of.
  std::array<uint8_t, 3> fill() const {
    std::array<uint8_t, 3> color{};
    for (size_t i = 0; i < 3; ++i) color[i] = static_cast<uint8_t>(config_.image.mean[i] * 255.0f);
    return color;
  }

  View padded(const Rgb& image, const Spread& spread) const {
    const ClipImage& c = config_.image;
    const Window window = centered({c.shortest_edge, c.shortest_edge}, c.crop);
    const int64_t square = std::max(image.height, image.width);
    const double scale = static_cast<double>(c.shortest_edge) / static_cast<double>(square);
    const auto begin = [&](int64_t side, int64_t cut) {
      return static_cast<double>((square - side) / 2) * scale - static_cast<double>(cut);
    };
    return {{c.crop, c.crop},
            resize_padded(image, fill(), c.shortest_edge, window, spread),
            scale,
            scale,
            begin(image.height, window.top),
            begin(image.width, window.left)};
  }

  static Window centered(Size size, int64_t crop) {
    return {(size.height - crop) / 2, (size.width - crop) / 2, crop, crop};
  }

  ClipConfig config_;
  ClipNames names_;
};

/// A size as a number, as {shortest_edge} or as {height, width} of a square.
int64_t read_side(const Json& file, const char* key) {
  const Json& size = file.at(key);
  if (size.type() != Json::Type::object) return positive(file, key, max_side);
  if (size.find("shortest_edge")) return positive(size, "shortest_edge", max_side);
  const int64_t side = positive(size, "height", max_side);
  check(positive(size, "width", max_side) == side, size.path(), "must be a square");
  return side;
}

}  // namespace

ClipImage ClipImage::read(const Json& file, int64_t image_size, bool pad_to_square) {
  ClipImage c{};
  c.pad_to_square = pad_to_square;
  for (const char* key : {"do_resize", "do_center_crop", "do_rescale", "do_normalize"}) require_flag(file, key, true);
  require_number(file, "resample", 3);  // bicubic
  require_number(file, "rescale_factor", 1 / 255.0);
  const Json& size = file.at("size");
  // A height and a width would stretch what is not square.
  if (!pad_to_square && size.find("height")) unsupported(size, "a height and a width", "shortest_edge");
  c.shortest_edge = read_side(file, "size");
  c.crop = read_side(file, "crop_size");
  check(c.crop == image_size, file.path() + ".crop_size",
        "must equal the tower's image_size, " + std::to_string(image_size));
  check(c.crop <= c.shortest_edge, file.path() + ".crop_size", "must not exceed size");
  c.mean = three(file.at("image_mean"));
  c.std = three(file.at("image_std"));
  for (const float s : c.std) check(s > 0, file.path(), "image_std must be positive");
  for (const float m : c.mean) check(m >= 0 && m <= 1, file.path(), "image_mean must lie in [0, 1]");
  return c;
}

ClipConfig ClipConfig::read(const Json& vision, const Json& select_layer, int64_t out_hidden_size) {
  ClipConfig c{};
  require_text(vision, "model_type", "clip_vision_model");
  require_text(vision, "hidden_act", "quick_gelu");
  require_number(vision, "num_channels", 3);
  require_number(vision, "attention_dropout", 0);
  c.hidden_size = positive(vision, "hidden_size");
  c.depth = positive(vision, "num_hidden_layers", max_layers);
  c.heads = positive(vision, "num_attention_heads");
  c.intermediate_size = positive(vision, "intermediate_size");
  c.image_size = positive(vision, "image_size", max_side);
  c.patch_size = positive(vision, "patch_size", max_side);
  const Json* eps = vision.find("layer_norm_eps");
  c.layer_norm_eps = eps ? small_number(*eps) : 1e-5f;  // CLIPVisionConfig's default
  c.out_hidden_size = out_hidden_size;
  check(c.hidden_size % c.heads == 0, vision.path(), "hidden_size must be a multiple of num_attention_heads");
  check(c.image_size % c.patch_size == 0, vision.path(), "image_size must be a multiple of patch_size");
  if (select_layer.type() == Json::Type::array) unsupported(select_layer, "a list", "one layer");
  const int64_t selected = select_layer.integer();
  c.blocks_used = selected < 0 ? c.depth + 1 + selected : selected;
  check(c.blocks_used >= 0 && c.blocks_used <= c.depth, select_layer.path(),
        "is not a hidden state of a tower with " + std::to_string(c.depth) + " layers");
  return c;
}

std::shared_ptr<const VisionSpec> make_clip_spec(const ClipConfig& config, const ClipNames& names) {
  return std::make_shared<Spec>(config, names);
}

}  // namespace fire
