#include "binding/cancel_token.h"

namespace fire::binding {
namespace {
/// Marks our own objects, so that a foreign object is refused instead of misread.
constexpr napi_type_tag cancel_tag = {0x6669726574726e31, 0x63616e63656c0001};
}  // namespace

CancelToken::CancelToken(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CancelToken>(info) {
  info.This().As<Napi::Object>().TypeTag(&cancel_tag);
}

Napi::Value CancelToken::create(const Napi::CallbackInfo& info) {
  return DefineClass(info.Env(), "CancelToken", {InstanceMethod<&CancelToken::cancel>("cancel")}).New({});
}

SharedFlag CancelToken::flag_of(const Napi::Object& object) {
  if (!object.CheckTypeTag(&cancel_tag))
    throw Error(Code::invalid_argument, "expected what createCancelToken() returned for cancel");
  return Unwrap(object)->flag_;
}

}  // namespace fire::binding
