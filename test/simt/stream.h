// A stream of the pretend device as a library of another file sees it (test/nccl): its handle is one of these.
#pragma once

namespace fire::simt {

class OutsideStream {
 public:
  virtual ~OutsideStream() = default;
  /// A piece of work that the library does on a thread of its own: the stream has not run empty before its end.
  virtual void begin() = 0;
  virtual void end() = 0;
  /// Whether a stream that this one has waited for has done work since, or, where it has waited for none, any stream
  /// has done some: what comes here now might come too early on a GPU.
  virtual bool behind() const = 0;
};

}  // namespace fire::simt
