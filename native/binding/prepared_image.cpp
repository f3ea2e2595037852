#include "binding/prepared_image.h"

#include "binding/js_error.h"

namespace fire::binding {
namespace {
/// Marks our own objects, so that a foreign object is taken for pixels instead of misread.
constexpr napi_type_tag prepared_tag = {0x6669726574726e31, 0x70726570617265d1};
}  // namespace

PreparedImageWrap::PreparedImageWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<PreparedImageWrap>(info) {
  info.This().As<Napi::Object>().TypeTag(&prepared_tag);
}

void PreparedImageWrap::Finalize(Napi::Env env) { Napi::MemoryManagement::AdjustExternalMemory(env, -bytes()); }

int64_t PreparedImageWrap::bytes() const {
  return image_.prepared ? static_cast<int64_t>(image_.prepared->patches.pixels.size()) : 0;
}

Napi::Function PreparedImageWrap::define(Napi::Env env) {
  return DefineClass(env, "PreparedImage", {InstanceAccessor<&PreparedImageWrap::id>("id")});
}

Napi::Object PreparedImageWrap::wrap(Napi::Env env, NamedImage image) {
  const Napi::Object object = env.GetInstanceData<AddonState>()->prepared_class.New({});
  PreparedImageWrap* self = Unwrap(object);
  self->image_ = std::move(image);
  Napi::MemoryManagement::AdjustExternalMemory(env, self->bytes());
  return object;
}

const NamedImage* PreparedImageWrap::find(const Napi::Value& value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&prepared_tag)) return nullptr;
  const NamedImage& image = Unwrap(value.As<Napi::Object>())->image_;
  return image.prepared ? &image : nullptr;
}

}  // namespace fire::binding
