// The images that an engine holds, from pixels to features: prepared on the host, encoded in batches, known by name and
// by content.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/context.h"
#include "model/vision.h"
#include "tensor/content_store.h"

namespace fire {

/// What the host makes of an image before the tower sees it. It depends on the model and the pixels alone, so any
/// thread may make it, also ahead of time.
struct PreparedImage {
  Size size;                  // of the image as it came
  Sha256::Digest content;     // two images with it have the same features
  std::string preprocessing;  // of the spec that made it
  Patches patches;
};
/// Throws ERR_FIRE_UNSUPPORTED or ERR_FIRE_INVALID_ARGUMENT for an image that the model's family refuses.
std::shared_ptr<const PreparedImage> prepare_image(const VisionSpec& vision, const Rgb& image, const Spread& spread);

/// Either prepared or as pixels.
struct NamedImage {
  std::string id;
  Rgb rgb;
  std::shared_ptr<const PreparedImage> prepared;
};

struct EncodedImage {
  std::string id;
  int64_t grid_h, grid_w, tokens;
};

class EncodedImages {
 public:
  /// The plain layout encodes again, so what was prepared is kept.
  struct Image {
    std::shared_ptr<const PreparedImage> prepared;
    std::unique_ptr<ImageFeatures> features;
  };

  /// Patches that go through the tower at once: as many as its memory holds within `vision_budget` (engine/plan.h).
  EncodedImages(const Context& context, int64_t batch_patches, ContentStore* store);

  /// Runs the tower and keeps the features under each id until it is released. An id that is known is not run again,
  /// nor are pixels that are: their features are held once, and steps share their rows. All are held, or on an error
  /// none. `encoding(work)` runs what reads weights.
  template <class F>
  std::vector<EncodedImage> encode(const std::vector<NamedImage>& images, Cancel cancel, F&& encoding);
  void release(const std::string& id);
  /// On a GPU: takes the memory of images of so many tokens that are held together.
  void reserve(const std::vector<int64_t>& tokens);
  const Image& at(const std::string& id) const;
  /// The features of one image, whoever holds it.
  std::unique_ptr<ImageFeatures> features_of(const Patches& patches, const Observer* observer = nullptr);
  FeaturePool& pool() { return pool_; }

 private:
  using Shared = std::shared_ptr<Image>;
  /// Images by name, those of `images` that are not held yet among them; `fresh` are those without features.
  std::map<std::string, Shared> gather(const std::vector<NamedImage>& images, std::vector<Shared>& fresh);
  void encode_batch(std::span<const Shared> images);
  std::unique_ptr<ImageFeatures> blank(TokenGrid grid);
  std::unique_ptr<ImageFeatures> blank(const PreparedImage& image);
  ContentStore::Key key_of(const PreparedImage& image) const;
  /// From the store; nullptr where it has nothing that fits.
  std::unique_ptr<ImageFeatures> stored(const PreparedImage& image);
  void keep(const Image& image);

  Context context_;
  int64_t batch_patches_;
  ContentStore* store_;  // nullptr = none
  FeaturePool pool_;
  std::map<std::string, Shared> images_;                     // by id
  std::map<Sha256::Digest, std::weak_ptr<Image>> contents_;  // those among them, by their pixels
};

template <class F>
std::vector<EncodedImage> EncodedImages::encode(const std::vector<NamedImage>& images, Cancel cancel, F&& encoding) {
  cancel.check();
  std::vector<Shared> fresh;
  std::map<std::string, Shared> named = gather(images, fresh);
  std::vector<int64_t> patches;
  for (const Shared& image : fresh) patches.push_back(image->prepared->patches.count());
  size_t begin = 0;
  for (const size_t end : tower_batches(patches, batch_patches_)) {
    cancel.check();
    encoding([&] { encode_batch(std::span(fresh).subspan(begin, end - begin)); });
    begin = end;
  }
  if (store_)
    for (const Shared& image : fresh) keep(*image);
  for (auto& [id, image] : named) {
    contents_[image->prepared->content] = image;
    images_[id] = image;
  }
  std::vector<EncodedImage> encoded;
  for (const NamedImage& each : images) {
    const Image& image = at(each.id);
    const Patches& patches = image.prepared->patches;
    encoded.push_back({each.id, patches.grid_h, patches.grid_w, image.features->tokens()});
  }
  return encoded;
}

}  // namespace fire
