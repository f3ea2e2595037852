// Defects in words.
#include <string>

#include "simt/hopper_state.h"
#include "tensor/error.h"

namespace fire::simt {
namespace {

std::string text(const uint3& index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

std::string text(const Source& source) {
  return source.file ? std::string(source.file) + ":" + std::to_string(source.line) : std::string("the kernel's end");
}

std::string hex(uint64_t value) {
  std::string digits;
  do digits.insert(digits.begin(), "0123456789abcdef"[value % 16]);
  while (value /= 16);
  return "0x" + digits;
}

std::string thread(const Lane* lane) { return "thread " + text(lane->view.index); }

const char* operation(WarpOp op) {
  switch (op) {
    case WarpOp::none:
      return "nothing";
    case WarpOp::sync:
      return "__syncwarp";
    case WarpOp::shuffle:
      return "__shfl_sync";
    case WarpOp::shuffle_up:
      return "__shfl_up_sync";
    case WarpOp::shuffle_down:
      return "__shfl_down_sync";
    case WarpOp::shuffle_xor:
      return "__shfl_xor_sync";
    case WarpOp::ballot:
      return "__ballot_sync";
    case WarpOp::any:
      return "__any_sync";
    case WarpOp::all:
      return "__all_sync";
    case WarpOp::add:
      return "__reduce_add_sync";
    case WarpOp::min_signed:
    case WarpOp::min_unsigned:
      return "__reduce_min_sync";
    case WarpOp::max_signed:
    case WarpOp::max_unsigned:
      return "__reduce_max_sync";
    case WarpOp::bit_and:
      return "__reduce_and_sync";
    case WarpOp::bit_or:
      return "__reduce_or_sync";
    case WarpOp::bit_xor:
      return "__reduce_xor_sync";
    case WarpOp::ldmatrix:
      return "ldmatrix";
    case WarpOp::ldmatrix_trans:
      return "ldmatrix.trans";
    case WarpOp::mma:
      return "mma.sync";
    case WarpOp::elect:
      return "elect.sync";
  }
  return "?";
}

std::string collective(const Lane* lane) {
  return std::string(operation(lane->op)) + " at " + text(lane->source) + " with mask " + hex(lane->mask);
}

/// What the phase lacks that a thread waits for.
std::string missing_of(const Lane& lane) {
  const Barrier& barrier = hopper.barriers[lane.value];
  return "phase " + std::to_string(barrier.phase) + ": " + std::to_string(barrier.pending) + " arrivals and " +
         std::to_string(barrier.bytes) + " bytes are missing";
}

std::string whereabouts(const Lane& lane) {
  switch (lane.wait) {
    case Wait::barrier:
      return "__syncthreads at " + text(lane.source);
    case Wait::warp:
      return collective(&lane);
    case Wait::named_barrier:
      return "named barrier " + std::to_string(lane.value) + " at " + text(lane.source);
    case Wait::mbarrier:
      return "mbarrier at " + text(lane.source) + " (" + missing_of(lane) + ")";
    case Wait::warpgroup:
      return "an instruction of the warpgroup at " + text(lane.source);
    case Wait::registers:
      return "setmaxnreg at " + text(lane.source) + " for registers that nobody gives away";
    case Wait::finished:
      return "the kernel's end";
    default:
      return "nothing";
  }
}

/// "threads 0-31 wait at __syncthreads at k.cu:7; threads 32-63 ...", by runs of threads at the same place.
std::string everybody() {
  constexpr unsigned kListed = 16;
  std::string list;
  unsigned runs = 0;
  for (unsigned begin = 0, end; begin < machine.threads && runs < kListed; begin = end, ++runs) {
    const std::string place = whereabouts(machine.lanes[begin]);
    for (end = begin + 1; end < machine.threads && whereabouts(machine.lanes[end]) == place;) ++end;
    list += (runs ? "; threads " : "threads ") + std::to_string(begin) + "-" + std::to_string(end - 1) + " wait at " +
            place;
    if (end < machine.threads && runs + 1 == kListed) list += "; ...";
  }
  return list;
}

std::string description(const Failure& failure) {
  const std::string value = std::to_string(failure.value);
  switch (failure.defect) {
    case Defect::none:
      break;
    case Defect::divergent_barrier:
      return "divergent __syncthreads: this thread is at " + text(failure.source) + ", " + thread(failure.other) +
             " waits at " + text(failure.other->source);
    case Defect::barrier_after_exit:
      return "barrier that not all threads reach: __syncthreads at " + text(failure.source) + ", but " +
             thread(failure.other) + " has left the kernel";
    case Defect::exit_before_barrier:
      return "barrier that not all threads reach: this thread has left the kernel, " + thread(failure.other) +
             " waits in __syncthreads at " + text(failure.source);
    case Defect::deadlock:
      return "deadlock: " + everybody();
    case Defect::not_in_mask:
      return "the thread is not in the mask of its " + collective(failure.lane);
    case Defect::no_such_lane:
      return "the mask names lane " + value + ", which the block does not have: " + collective(failure.lane);
    case Defect::exited_lane:
      return "the mask names lane " + value + ", which has left the kernel: " + collective(failure.lane);
    case Defect::mismatched_op:
      return "mismatched warp operations: this thread is at " + collective(failure.lane) + ", " +
             thread(failure.other) + " at " + collective(failure.other);
    case Defect::exit_from_mask:
      return "this thread has left the kernel, " + thread(failure.other) + " waits for it in " +
             collective(failure.other);
    case Defect::shuffle_width:
      return "the width " + value + " of a shuffle at " + text(failure.source) + " is not a power of two up to 32";
    case Defect::shuffle_source:
      return "reads lane " + value + ", which is not in the mask: " + collective(failure.lane);
    case Defect::unaligned:
      return std::string(failure.what) + " is not 16-byte aligned (" + hex(failure.value) + ") at " +
             text(failure.source);
    case Defect::outside_shared:
      return std::string(failure.what) + " is not in the block's shared memory (" + hex(failure.value) + ") at " +
             text(failure.source);
    case Defect::in_shared:
      return std::string(failure.what) + " is not in global memory (" + hex(failure.value) + ") at " +
             text(failure.source);
    case Defect::unfinished_copies:
      return "leaves the kernel with " + value + " unfinished copies (cp.async without a wait)";
    case Defect::too_many_copies:
      return "more than " + std::to_string(kMaxCopies) + " copies of a thread under way at " + text(failure.source);
    case Defect::too_much_shared:
      return "too much shared memory: " + value + " bytes with the array at " + text(failure.source) + " (at most " +
             std::to_string(kMaxStaticShared) + " static, " + std::to_string(kMaxShared) + " in all)";
    case Defect::too_many_arrays:
      return "more than " + std::to_string(kMaxSharedArrays) + " shared arrays at " + text(failure.source);
    case Defect::shared_overrun:
      return std::string("shared memory written past its end: ") +
             (failure.source.file ? "the array at " + text(failure.source) : std::string("the dynamic array")) +
             " has " + value + " bytes";
    case Defect::misuse:
      return std::string(failure.what) + " at " + text(failure.source);
    case Defect::misuse_of:
      return std::string(failure.what) + " (" + value + ") at " + text(failure.source);
    case Defect::disagreement:
      return std::string(failure.what) + ": this thread at " + text(failure.source) + ", " + thread(failure.other) +
             " at " + text(failure.other->source);
  }
  return "no defect";
}

}  // namespace

void throw_failure() {
  const Failure failure = last_failure;
  const std::string block = text(current_block.index);
  std::string message = std::string("kernel ") + machine.launch->kernel + ", block " + block;
  if (failure.lane) message += ", " + thread(failure.lane);
  Error error(Code::cuda, message + ": " + description(failure));
  error.with("kernel", machine.launch->kernel).with("block", block);
  if (failure.lane) error.with("thread", text(failure.lane->view.index));
  if (failure.source.file) error.with("source", text(failure.source));
  throw error;
}

void refuse_launch(const Launch& launch, const std::string& reason) {
  const auto size = [](const dim3& d) { return text(uint3(d)); };
  throw Error(Code::cuda, std::string(launch.kernel) + ": the launch is refused: " + reason + " (grid " +
                              size(launch.grid) + ", block " + size(launch.block) + ", " +
                              std::to_string(launch.shared_bytes) + " bytes of shared memory)")
      .with("kernel", launch.kernel);
}

}  // namespace fire::simt
