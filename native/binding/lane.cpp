#include "binding/lane.h"

#include <new>

#include "binding/js_error.h"

namespace fire::binding {

std::shared_ptr<Callback> to_callback(const Napi::Value& value, const char* name) {
  if (value.IsNull()) return nullptr;
  if (!value.IsFunction()) throw Error(Code::invalid_argument, std::string("expected a function or null for ") + name);
  return std::make_shared<Callback>(Callback{Napi::Persistent(value.As<Napi::Function>())});
}

Lane::Lane(Napi::Env env) : link_(std::make_shared<Link>(Link{this})) {
  auto* link = new std::shared_ptr<Link>(link_);
  auto finalize = [](Napi::Env, std::shared_ptr<Link>* owned, std::nullptr_t*) {
    if ((*owned)->lane) (*owned)->lane->stop();
    (*owned)->channel_open = false;
    delete owned;
  };
  channel_ = Channel::New(env, "fire-train lane", 0, 1, static_cast<std::nullptr_t*>(nullptr), finalize, link);
  channel_.Unref(env);
  thread_ = std::thread([this] { loop(); });
}

Lane::~Lane() {
  stop();
  link_->lane = nullptr;
  if (link_->channel_open) channel_.Release();
}

void Lane::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    if (current_ && current_->held.cancel) current_->held.cancel->store(true);
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

Napi::Promise Lane::run(Napi::Env env, std::function<ToJs()> work, Held held) {
  auto task = std::make_unique<Task>(
      Task{Napi::Promise::Deferred::New(env), std::move(work), std::move(held), {}, std::nullopt, std::nullopt});
  const Napi::Promise promise = task->deferred.Promise();
  if (pending_++ == 0) channel_.Ref(env);
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(task));
  }
  wake_.notify_one();
  return promise;
}

void Lane::call(const std::shared_ptr<Callback>& callback,
                std::function<std::vector<napi_value>(Napi::Env)> arguments) {
  Task* task = current_;
  // The task outlives the message: it is settled by a later message of the same channel.
  send([callback, arguments = std::move(arguments), task](Napi::Env env) {
    try {
      callback->function.Call(arguments(env));
    } catch (const Napi::Error& e) {
      if (!task->callback_error) task->callback_error = e;
    }
  });
}

void Lane::loop() {
  for (;;) {
    std::unique_ptr<Task> task;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      task = std::move(queue_.front());
      queue_.pop_front();
      current_ = task.get();
    }
    execute(*task);
    {
      std::lock_guard lock(mutex_);
      current_ = nullptr;
    }
    // A copyable handle for std::function; ownership returns to a unique_ptr on the other side.
    Task* raw = task.release();
    send([link = link_, raw](Napi::Env env) {
      std::unique_ptr<Task> owned(raw);
      if (link->lane) link->lane->settle(env, std::move(owned));
    });
  }
}

void Lane::execute(Task& task) {
  try {
    task.result = task.work();
  } catch (const Error& e) {
    task.error = e;
  } catch (const std::bad_alloc&) {
    task.error = Error(Code::out_of_memory, "the process is out of memory");
  } catch (const std::exception& e) {
    task.error = Error(Code::internal, e.what());
  }
}

void Lane::settle(Napi::Env env, std::unique_ptr<Task> task) {
  if (--pending_ == 0) channel_.Unref(env);
  try {
    if (task->callback_error) {
      task->deferred.Reject(task->callback_error->Value());
    } else if (task->error) {
      task->deferred.Reject(to_js(env, *task->error));
    } else {
      task->deferred.Resolve(task->result(env));
    }
  } catch (const Napi::Error& e) {
    task->deferred.Reject(e.Value());
  }
}

bool Lane::send(Message message) {
  auto* data = new Message(std::move(message));
  return channel_.NonBlockingCall(data) == napi_ok;
}

void Lane::deliver(Napi::Env env, Napi::Function, std::nullptr_t*, Message* message) {
  if (env == nullptr) return;  // shutting down: see send
  const std::unique_ptr<Message> owned(message);
  try {
    Napi::HandleScope scope(env);
    (*message)(env);
  } catch (const Napi::Error&) {
    // Promises take every other error: this one says that a worker was terminated, and nobody is left to hear it.
  }
}

}  // namespace fire::binding
