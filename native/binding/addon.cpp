// The exports of fire.node; their types are in src/engine/native.ts.
#include <napi.h>

#include "binding/cancel_token.h"
#include "binding/convert.h"
#include "binding/engine_wrap.h"
#include "binding/js_error.h"
#include "binding/lane.h"
#include "binding/prepared_image.h"
#include "cpu/cpu_features.h"
#include "cpu/gemm_bench.h"
#include "cpu/onednn.h"
#include "cpu/thread_pool.h"
#include "tensor/exchange.h"

namespace fire::binding {
namespace {

Napi::Value set_error_class(const Napi::CallbackInfo& info) {
  AddonState* state = info.Env().GetInstanceData<AddonState>();
  state->error_class = Napi::Persistent(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

Napi::Value cpu_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return throwing(env, [&] {
    Napi::Object o = Napi::Object::New(env);
    o.Set("model", cpu::cpu_model());
    o.Set("cores", cpu::available_cpus());
    o.Set("isa", js_array(env, cpu::cpu_features(), [&](const std::string& s) { return Napi::String::New(env, s); }));
    o.Set("kernel", cpu::name(cpu::selected_isa()));
    Napi::Object onednn = Napi::Object::New(env);
    onednn.Set("available", cpu::onednn().available);
    onednn.Set("detail", cpu::onednn().detail);
    o.Set("onednn", onednn);
    return o;
  });
}

Napi::Value gpu_report_value(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const GpuReport report = gpu_report();
  Napi::Object o = Napi::Object::New(env);
  o.Set("gpus", js_array(env, report.gpus, [&](const GpuInfo& gpu) {
          Napi::Object g = Napi::Object::New(env);
          g.Set("name", gpu.name);
          g.Set("capability", gpu.capability);
          g.Set("totalBytes", static_cast<double>(gpu.total_bytes));
          g.Set("objection", gpu.objection);
          g.Set("uuid", gpu.uuid);
          return g;
        }));
  o.Set("reason", report.reason);
  o.Set("cublaslt", report.cublaslt);
  return o;
}

Napi::Value gpu_memory_value(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return throwing(env, [&] {
    const GpuMemory memory = gpu_memory(to_string(info[0], "device"));
    Napi::Object o = Napi::Object::New(env);
    o.Set("freeBytes", static_cast<double>(memory.free_bytes));
    o.Set("totalBytes", static_cast<double>(memory.total_bytes));
    return o;
  });
}

Napi::Value gpu_kernels_value(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return throwing(env,
                  [&] { return Napi::String::New(env, gpu_kernels(to_string(info[0], "device"))).As<Napi::Value>(); });
}

/// A lane for one call that has no engine; it goes when the call has settled.
Napi::Promise run_once(Napi::Env env, const std::function<Napi::Promise(Lane&)>& start) {
  auto* lane = new Lane(env);
  const Napi::Promise promise = start(*lane);
  // Deleting joins the lane's thread, which is idle by the time the promise settles.
  const auto release = Napi::Function::New(env, [lane](const Napi::CallbackInfo&) { delete lane; });
  promise.Get("then").As<Napi::Function>().Call(promise, {release, release});
  return promise;
}

Napi::Value verify_folder(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const VerifySpec spec = to_verify_spec(info[0]);
    Lane::Held held;
    const std::shared_ptr<Callback> callback = to_callback(info[1], "onRow");
    if (callback) held.callbacks.push_back(callback);
    return run_once(info.Env(), [&](Lane& lane) {
      auto work = [spec, callback, &lane]() -> ToJs {
        const std::vector<VerifyRow> rows = verify(spec, [&](const VerifyRow& row) {
          if (callback)
            lane.call(callback, [row](Napi::Env env) -> std::vector<napi_value> { return {verify_row(env, row)}; });
        });
        return [rows](Napi::Env env) {
          return js_array(env, rows, [&](const VerifyRow& row) { return verify_row(env, row); });
        };
      };
      return lane.run(info.Env(), work, std::move(held));
    });
  });
}

Napi::Value bench_gemm_async(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Fields spec(info[0], "spec");
    const int threads = static_cast<int>(spec.integer("threads", 0));
    const double seconds = spec.number("seconds");
    const auto shapes = to_vector(spec.get("shapes"), "spec.shapes", [](const Napi::Value& value) {
      const Fields o(value, "shape");
      return cpu::GemmShape{o.integer("m", 1), o.integer("n", 1), o.integer("k", 1)};
    });
    return run_once(info.Env(), [&](Lane& lane) {
      auto work = [threads, seconds, shapes]() -> ToJs {
        const auto rows = cpu::bench_gemm(threads, seconds, shapes);
        return [rows](Napi::Env env) {
          return js_array(env, rows, [&](const cpu::GemmBenchRow& row) {
            Napi::Object o = Napi::Object::New(env);
            o.Set("m", static_cast<double>(row.m));
            o.Set("n", static_cast<double>(row.n));
            o.Set("k", static_cast<double>(row.k));
            o.Set("dtype", fire::name(row.dtype));
            o.Set("backend", row.backend);
            o.Set("gflops", row.gflops);
            o.Set("ceiling", row.ceiling);
            return o;
          });
        };
      };
      return lane.run(info.Env(), work);
    });
  });
}

Napi::Value merge_async(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const MergeSpec spec = to_merge_spec(info[0]);
    const SharedFlag cancel = cancel_flag(info[1]);
    return run_once(info.Env(), [&](Lane& lane) {
      auto work = [spec, cancel]() -> ToJs {
        return [stats = merge_adapter(spec, cancel.get())](Napi::Env env) {
          Napi::Object o = Napi::Object::New(env);
          o.Set("files", js_array(env, stats.files, [&](const std::string& s) { return Napi::String::New(env, s); }));
          o.Set("tensors", static_cast<double>(stats.tensors));
          o.Set("merged", static_cast<double>(stats.merged));
          o.Set("bytes", static_cast<double>(stats.bytes));
          return o;
        };
      };
      Lane::Held held;
      held.cancel = cancel;
      return lane.run(info.Env(), work, std::move(held));
    });
  });
}

Napi::Value transports(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object o = Napi::Object::New(env);
  for (const auto& [name, transport] : {std::pair{"nccl", Transport::nccl}, {"mpi", Transport::mpi}}) {
    const TransportReport report = transport_report(transport);
    Napi::Object t = Napi::Object::New(env);
    const bool found = report.missing.empty();
    t.Set(found ? "version" : "missing", found ? report.version : report.missing);
    o.Set(name, t);
  }
  return o;
}

Napi::Value group_id(const Napi::CallbackInfo& info) {
  return throwing(info.Env(), [&]() -> Napi::Value { return Napi::String::New(info.Env(), new_group_id()); });
}

Napi::Value exchange_paths(const Napi::CallbackInfo& info) {
  return throwing(info.Env(), [&]() -> Napi::Value {
    const std::string first = info[0].ToString(), second = info[1].ToString();
    return Napi::Boolean::New(info.Env(), exchange(first, second));
  });
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  auto* state = new AddonState();
  env.SetInstanceData(state);  // freed with the environment
  state->engine_class = Napi::Persistent(EngineWrap::define(env));
  state->prepared_class = Napi::Persistent(PreparedImageWrap::define(env));
  exports.Set("version", FIRE_VERSION);
  exports.Set("setErrorClass", Napi::Function::New(env, set_error_class));
  exports.Set("cpuInfo", Napi::Function::New(env, cpu_info));
  exports.Set("gpuReport", Napi::Function::New(env, gpu_report_value));
  exports.Set("gpuMemory", Napi::Function::New(env, gpu_memory_value));
  exports.Set("gpuKernels", Napi::Function::New(env, gpu_kernels_value));
  exports.Set("transports", Napi::Function::New(env, transports));
  exports.Set("groupId", Napi::Function::New(env, group_id));
  exports.Set("exchange", Napi::Function::New(env, exchange_paths));
  exports.Set("createCancelToken", Napi::Function::New(env, CancelToken::create));
  exports.Set("openEngine", Napi::Function::New(env, EngineWrap::open));
  exports.Set("verify", Napi::Function::New(env, verify_folder));
  exports.Set("mergeAdapter", Napi::Function::New(env, merge_async));
  exports.Set("benchGemm", Napi::Function::New(env, bench_gemm_async));
  return exports;
}

}  // namespace

// The macro names a function at file scope.
static Napi::Object init(Napi::Env env, Napi::Object exports) { return initialize(env, exports); }
NODE_API_MODULE(fire, init)

}  // namespace fire::binding
