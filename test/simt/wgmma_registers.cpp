// Writes to registers between wgmma.fence and a wgmma that uses them. The emulator sees no register accesses; but it
// knows the variables that products have used before, and compares them.
#include "simt/hopper_state.h"

namespace fire::simt {
namespace {

/// FNV-1a by words.
SIMT_UNSEEN uint64_t digest(const void* registers, unsigned count) {
  uint64_t hash = 14695981039346656037u;
  for (unsigned i = 0; i < count; ++i) {
    uint32_t word;
    __builtin_memcpy(&word, static_cast<const char*>(registers) + 4 * i, sizeof word);
    hash = (hash ^ word) * 1099511628211u;
  }
  return hash;
}

SIMT_UNSEEN UsedRegisters* find(Warpgroup& group, const void* const (&registers)[kWarpgroup], unsigned count) {
  for (UsedRegisters& used : group.used)
    if (used.of[0] == registers[0] && used.count == count) return &used;
  return nullptr;
}

SIMT_UNSEEN void remember(Warpgroup& group, const void* const (&registers)[kWarpgroup], unsigned count) {
  UsedRegisters& used = group.used[group.next_used++ % kMaxUsed];
  used.count = count;
  for (unsigned t = 0; t < kWarpgroup; ++t) {
    used.of[t] = registers[t];
    used.fenced[t] = false;
  }
}

SIMT_UNSEEN Warpgroup& group_of(const Lane& lane) { return hopper.warpgroups[lane.number / kWarpgroup]; }

}  // namespace

SIMT_UNSEEN void forget_registers(Warpgroup& group) {
  for (UsedRegisters& used : group.used) used.of[0] = nullptr;
  group.next_used = 0;
}

SIMT_UNSEEN void note_fence(const Lane& lane) {
  const unsigned t = lane.number % kWarpgroup;
  for (UsedRegisters& used : group_of(lane).used) {
    if (!used.of[0]) continue;
    used.fenced[t] = true;
    used.at_fence[t] = digest(used.of[t], used.count);
  }
}

SIMT_UNSEEN const Lane* written_since_fence(const Lane* lanes, const void* const (&registers)[kWarpgroup],
                                            unsigned count) {
  Warpgroup& group = group_of(*lanes);
  UsedRegisters* const used = find(group, registers, count);
  if (!used) {
    remember(group, registers, count);
    return nullptr;
  }
  for (unsigned t = 0; t < kWarpgroup; ++t)
    if (used->fenced[t] && used->of[t] == registers[t] && used->at_fence[t] != digest(registers[t], count))
      return lanes + t;
  return nullptr;
}

SIMT_UNSEEN void note_written(const Lane* lanes, const void* const (&registers)[kWarpgroup]) {
  for (UsedRegisters& used : group_of(*lanes).used)
    for (unsigned t = 0; t < kWarpgroup; ++t)
      if (used.of[0] && used.of[t] == registers[t]) used.at_fence[t] = digest(used.of[t], used.count);
}

}  // namespace fire::simt
