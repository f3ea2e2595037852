// One thread per engine and the way back to JavaScript. Work is queued in call order, runs on the lane's thread, and
// settles its promise on the JavaScript thread. An idle lane never keeps the process alive; a pending call does.
#pragma once

#include <napi.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "tensor/error.h"

namespace fire::binding {

/// Builds the JavaScript value of a result; runs on the JavaScript thread.
using ToJs = std::function<Napi::Value(Napi::Env)>;

/// A JavaScript callback that the lane's thread may ask to be called. Created, called and destroyed on the JavaScript
/// thread only; the task that uses it owns it.
struct Callback {
  Napi::FunctionReference function;
};
/// null gives nullptr.
std::shared_ptr<Callback> to_callback(const Napi::Value& value, const char* name);

class Lane {
 public:
  explicit Lane(Napi::Env env);
  /// Cancels and waits for the running task, drops the queued ones.
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  /// Values that must stay alive until the task has settled and must die on the JavaScript thread.
  struct Held {
    std::vector<Napi::ObjectReference> objects;
    std::vector<std::shared_ptr<Callback>> callbacks;
    /// Set when the environment goes away in the middle of the task, so that leaving does not wait for a whole step.
    std::shared_ptr<std::atomic<bool>> cancel;
  };

  /// Queues `work` and returns its promise. Everything thrown becomes a rejection.
  Napi::Promise run(Napi::Env env, std::function<ToJs()> work, Held held = {});

  /// From the lane's thread, during a task: calls `callback` soon with what `arguments` makes. An exception in it
  /// rejects the task's promise.
  void call(const std::shared_ptr<Callback>& callback, std::function<std::vector<napi_value>(Napi::Env)> arguments);

 private:
  struct Task {
    Napi::Promise::Deferred deferred;
    std::function<ToJs()> work;
    Held held;
    ToJs result;
    std::optional<Error> error;
    std::optional<Napi::Error> callback_error;
  };
  using Message = std::function<void(Napi::Env)>;
  static void deliver(Napi::Env env, Napi::Function, std::nullptr_t*, Message* message);
  using Channel = Napi::TypedThreadSafeFunction<std::nullptr_t, Message, deliver>;

  /// What the channel's finalizer and the lane share: whichever goes first tells the other. JavaScript thread only.
  struct Link {
    Lane* lane;
    bool channel_open = true;
  };

  /// Joins the thread. The environment deletes the channel when it ends, so this has to come before; idempotent.
  void stop();
  void loop();
  static void execute(Task& task);
  void settle(Napi::Env env, std::unique_ptr<Task> task);
  /// False when the environment is going away; the message is then deliberately leaked, for it holds JavaScript values.
  bool send(Message message);

  std::shared_ptr<Link> link_;
  Channel channel_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Task>> queue_;
  Task* current_ = nullptr;  // written by the lane's thread, under the mutex
  int pending_ = 0;          // JavaScript thread only
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace fire::binding
