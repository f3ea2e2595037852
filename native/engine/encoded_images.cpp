#include "engine/encoded_images.h"

#include <cstring>

#include "engine/plan.h"

namespace fire {
namespace {

Sha256::Digest content_of(const Rgb& image) {
  Sha256 sha;
  const int64_t size[] = {image.height, image.width};
  sha.add(std::as_bytes(std::span(size)));
  sha.add(std::as_bytes(std::span(image.pixels, static_cast<size_t>(image.height * image.width * 3))));
  return sha.digest();
}

std::shared_ptr<const PreparedImage> prepare(const VisionSpec& vision, const Rgb& image, const Sha256::Digest& content,
                                             const Spread& spread) {
  return std::make_shared<const PreparedImage>(
      PreparedImage{{image.height, image.width}, content, vision.preprocessing(), vision.preprocess(image, spread)});
}

/// An image that another model prepared has another grid, or pixels that this one would have made otherwise.
void require_prepared_by(const VisionSpec& vision, const NamedImage& image) {
  const auto& [size, content, preprocessing, patches] = *image.prepared;
  const int64_t side = vision.rows().side();
  if (preprocessing == vision.preprocessing() &&
      patches.pixels.size() == static_cast<size_t>(patches.count() * side * side * 3))
    return;
  throw Error(Code::invalid_argument,
              "image \"" + image.id + "\" was prepared by another model; prepare it with an engine of this one")
      .with("image", image.id);
}

FeaturePool::Copy copies_on(Ops& ops) {
  if (!ops.is_gpu()) return {};
  return [&ops](void* to, const void* from, size_t bytes) {
    const Tensor source(const_cast<void*>(from), DType::f32, {static_cast<int64_t>(bytes / sizeof(float))});
    ops.copy(source, source.of(to, DType::f32));
  };
}

}  // namespace

std::shared_ptr<const PreparedImage> prepare_image(const VisionSpec& vision, const Rgb& image, const Spread& spread) {
  return prepare(vision, image, content_of(image), spread);
}

EncodedImages::EncodedImages(const Context& context, int64_t batch_patches, ContentStore* store)
    : context_(context),
      batch_patches_(batch_patches),
      store_(store),
      pool_(context.ops.arena_source(), copies_on(context.ops)) {}

std::map<std::string, EncodedImages::Shared> EncodedImages::gather(const std::vector<NamedImage>& images,
                                                                   std::vector<Shared>& fresh) {
  const VisionSpec& vision = *context_.config.vision;
  const Spread spread = [this](int64_t tasks, const auto& task) { context_.ops.spread(tasks, task); };
  std::map<std::string, Shared> named;
  std::map<Sha256::Digest, Shared> here;
  for (const NamedImage& each : images) {
    if (each.prepared) require_prepared_by(vision, each);
    if (images_.count(each.id) || named.count(each.id)) continue;
    const Sha256::Digest content = each.prepared ? each.prepared->content : content_of(each.rgb);
    const auto held = contents_.find(content);
    Shared image = held == contents_.end() ? nullptr : held->second.lock();
    if (const auto found = here.find(content); !image && found != here.end()) image = found->second;
    if (!image) {
      image = std::make_shared<Image>(
          Image{each.prepared ? each.prepared : prepare(vision, each.rgb, content, spread), nullptr});
      if (store_) image->features = stored(*image->prepared);
      if (!image->features) fresh.push_back(image);
    }
    here[content] = named[each.id] = image;
  }
  return named;
}

void EncodedImages::encode_batch(std::span<const Shared> images) {
  std::vector<const Patches*> patches;
  std::vector<ImageFeatures*> features;
  for (const Shared& image : images) {
    patches.push_back(&image->prepared->patches);
    image->features = blank(*image->prepared);
    features.push_back(image->features.get());
  }
  context_.weights.vision->encode(patches, features, context_.arena);
}

std::unique_ptr<ImageFeatures> EncodedImages::features_of(const Patches& patches, const Observer* observer) {
  auto features = blank(context_.config.vision->grid_of(patches));
  const Patches* image = &patches;
  ImageFeatures* filled = features.get();
  context_.weights.vision->encode({&image, 1}, {&filled, 1}, context_.arena, observer);
  return features;
}

std::unique_ptr<ImageFeatures> EncodedImages::blank(TokenGrid grid) {
  return std::make_unique<ImageFeatures>(pool_, context_.ops.activation_type(), grid, context_.config.text.hidden_size,
                                         context_.config.vision->deepstack_levels());
}

std::unique_ptr<ImageFeatures> EncodedImages::blank(const PreparedImage& image) {
  auto features = blank(context_.config.vision->grid_of(image.patches));
  std::memcpy(&features->content, image.content.data(), sizeof features->content);
  return features;
}

ContentStore::Key EncodedImages::key_of(const PreparedImage& image) const {
  return store_->key("image", std::as_bytes(std::span(image.content)));
}

std::unique_ptr<ImageFeatures> EncodedImages::stored(const PreparedImage& image) {
  const auto bytes = store_->find(key_of(image));
  if (!bytes) return nullptr;
  auto features = blank(image);
  if (features->all().bytes() != bytes->size()) return nullptr;
  context_.ops.upload(bytes->data(), features->all());
  return features;
}

void EncodedImages::keep(const Image& image) {
  std::vector<std::byte> bytes(image.features->all().bytes());
  context_.ops.download(image.features->all(), bytes.data());
  store_->keep(key_of(*image.prepared), bytes);
}

void EncodedImages::reserve(const std::vector<int64_t>& tokens) {
  std::vector<size_t> bytes;
  for (const int64_t count : tokens)
    bytes.push_back(static_cast<size_t>(count) * feature_bytes(context_.config, context_.ops));
  pool_.reserve(bytes);
}

void EncodedImages::release(const std::string& id) {
  const auto it = images_.find(id);
  if (it == images_.end()) return;
  const Sha256::Digest content = it->second->prepared->content;
  images_.erase(it);
  if (contents_.at(content).expired()) contents_.erase(content);
}

const EncodedImages::Image& EncodedImages::at(const std::string& id) const {
  const auto it = images_.find(id);
  if (it == images_.end())
    throw Error(Code::invalid_argument, "image \"" + id + "\" has not been encoded (or was released)")
        .with("image", id);
  return *it->second;
}

}  // namespace fire
