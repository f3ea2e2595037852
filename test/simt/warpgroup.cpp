// Instructions of a whole warpgroup: every thread leaves its operands and parks; the last one to arrive acts for all.
// Products are put off until the wait that covers them, and there until nobody can go on without them: the latest legal
// moment. Their sums are NaN until then. In eager mode they happen at once.
#include "simt/hopper_state.h"

namespace fire::simt {
namespace {

constexpr uint32_t kPoison = 0xffa5a5a5u;  // a signalling NaN: arithmetic makes another one of it

SIMT_UNSEEN Warpgroup& group_of(const Lane& lane) { return hopper.warpgroups[lane.number / kWarpgroup]; }
SIMT_UNSEEN Lane* first_lane(const Lane& lane) { return machine.lanes + lane.number / kWarpgroup * kWarpgroup; }
SIMT_UNSEEN Request& request_of(const Lane& lane) { return hopper.requests[lane.number]; }

SIMT_UNSEEN bool same_line(const Source& a, const Source& b) {
  return a.line == b.line && (a.file == b.file || __builtin_strcmp(a.file, b.file) == 0);
}

/// True for the last thread, which then has to act and release().
SIMT_UNSEEN bool join(Lane& lane, const Request& request, Source source) {
  use_hopper();
  if ((lane.number / kWarpgroup + 1) * kWarpgroup > machine.threads)
    fail({Defect::misuse, "an instruction of warpgroups in a block of fewer than 128 threads more", source, &lane});
  Warpgroup& group = group_of(lane);
  request_of(lane) = request;
  lane.source = source;
  if (group.joined == 0) group.leader = &lane;
  if (request_of(*group.leader).joint != request.joint || !same_line(group.leader->source, source))
    fail({Defect::disagreement, "the threads of a warpgroup are at different instructions", source, &lane,
          group.leader});
  if (++group.joined == kWarpgroup) {
    group.joined = 0;
    return true;
  }
  lane.wait = Wait::warpgroup;
  park(lane);
  return false;
}

SIMT_UNSEEN void release(const Lane& lane) {
  Lane* const lanes = first_lane(lane);
  for (unsigned i = 0; i < kWarpgroup; ++i)
    if (lanes + i != &lane) make_ready(lanes[i]);
}

SIMT_UNSEEN bool agree(const Lane& a, const Lane& b) {
  const Request &x = request_of(a), &y = request_of(b);
  const WgmmaOperands &p = x.operands, &q = y.operands;
  return x.grow == y.grow && x.count == y.count && p.a == q.a && p.b == q.b && p.n == q.n && p.trans_a == q.trans_a &&
         p.trans_b == q.trans_b && p.accumulate == q.accumulate && !p.registers == !q.registers &&
         hopper.product_groups[a.number] == hopper.product_groups[b.number];
}

SIMT_UNSEEN void check_agreement(const Lane& lane) {
  const Lane* const lanes = first_lane(lane);
  for (unsigned i = 0; i < kWarpgroup; ++i)
    if (!agree(lanes[0], lanes[i]))
      fail({Defect::disagreement, "the threads of a warpgroup disagree on the operands of its instruction",
            lanes[i].source, lanes + i, lanes});
}

/// Row and column of a thread's sum i.
SIMT_UNSEEN float& element(Accumulator& accumulator, unsigned thread, int i) {
  const unsigned row = thread / kWarp * 16 + thread % kWarp / 4 + 8 * (unsigned(i) / 2 % 2);
  return accumulator.values[row][i / 4 * 8 + int(thread % 4) * 2 + i % 2];
}

SIMT_UNSEEN void take(Accumulator& accumulator, bool poison) {
  for (unsigned t = 0; t < kWarpgroup; ++t)
    for (int i = 0; i < accumulator.n / 2; ++i) {
      float* const sum = accumulator.of[t] + i;
      element(accumulator, t, i) = *sum;
      if (poison) __builtin_memcpy(sum, &kPoison, sizeof kPoison);
    }
}

SIMT_UNSEEN void give_back(Accumulator& accumulator, bool poisoned, const Lane* lanes) {
  for (unsigned t = 0; t < kWarpgroup; ++t)
    for (int i = 0; i < accumulator.n / 2; ++i) {
      float* const sum = accumulator.of[t] + i;
      uint32_t bits;
      __builtin_memcpy(&bits, sum, sizeof bits);
      if (poisoned && bits != kPoison)
        fail({Defect::misuse, "sums were written while a wgmma that adds to them was under way", lanes[t].source,
              lanes + t});
      *sum = element(accumulator, t, i);
    }
  accumulator.used = false;
}

/// The accumulator that the threads' sums are; nullptr when no product under way has them.
SIMT_UNSEEN Accumulator* under_way(const Lane& lane, const Lane* lanes) {
  for (Accumulator& accumulator : group_of(lane).accumulators) {
    if (!accumulator.used) continue;
    unsigned same = 0, overlapping = 0;
    const int n = request_of(lane).operands.n;
    for (unsigned t = 0; t < kWarpgroup; ++t) {
      const float* const sums = request_of(lanes[t]).operands.sums;
      same += sums == accumulator.of[t];
      overlapping += sums < accumulator.of[t] + accumulator.n / 2 && accumulator.of[t] < sums + n / 2;
    }
    if (overlapping == 0) continue;
    if (same != kWarpgroup || accumulator.n != n)
      fail({Defect::misuse, "a wgmma adds to sums of which a product of another shape is under way", lane.source,
            &lane});
    return &accumulator;
  }
  return nullptr;
}

SIMT_UNSEEN Accumulator& start_accumulator(const Lane& lane, const Lane* lanes) {
  for (Accumulator& accumulator : group_of(lane).accumulators) {
    if (accumulator.used) continue;
    accumulator.used = true;
    accumulator.n = request_of(lane).operands.n;
    for (unsigned t = 0; t < kWarpgroup; ++t) accumulator.of[t] = request_of(lanes[t]).operands.sums;
    take(accumulator, !current_options.eager);
    return accumulator;
  }
  fail({Defect::misuse_of, "more sums under way than the emulator has", lane.source, &lane, nullptr, kMaxAccumulators});
}

/// Fails where a thread has touched registers of the product behind its fence.
SIMT_UNSEEN void check_registers(const Lane& lane, const Lane* lanes, bool sums_are_new) {
  const void *sums[kWarpgroup], *a[kWarpgroup];
  for (unsigned t = 0; t < kWarpgroup; ++t) {
    sums[t] = request_of(lanes[t]).operands.sums;
    a[t] = request_of(lanes[t]).operands.registers;
  }
  const WgmmaOperands& operands = request_of(lane).operands;
  const Lane* touched = nullptr;
  if (sums_are_new && operands.accumulate) touched = written_since_fence(lanes, sums, unsigned(operands.n) / 2);
  if (!touched && operands.registers) touched = written_since_fence(lanes, a, 4);
  if (touched)
    fail({Defect::misuse, "registers of a wgmma were written between its wgmma.fence and it", lane.source, touched});
}

SIMT_UNSEEN void issue(const Lane& lane, Lane* lanes) {
  check_agreement(lane);
  Warpgroup& group = group_of(lane);
  for (unsigned t = 0; t < kWarpgroup; ++t)
    if (!hopper.fenced[lanes[t].number])
      fail({Defect::misuse, "missing wgmma.fence: registers may have been touched since the last wgmma.wait_group",
            lane.source, lanes + t});
  check_operands(request_of(lane).operands, lane);
  if (group.issued - group.first == kMaxProducts)
    fail({Defect::misuse_of, "more wgmma under way than the emulator has", lane.source, &lane, nullptr, kMaxProducts});
  Product& product = group.products[group.issued++ % kMaxProducts];
  product.operands = request_of(lane).operands;
  product.group = hopper.product_groups[lane.number];
  product.source = lane.source;
  product.done = current_options.eager;
  if (product.operands.registers)
    for (unsigned t = 0; t < kWarpgroup; ++t)
      for (unsigned i = 0; i < 4; ++i) product.fragments[t][i] = request_of(lanes[t]).operands.registers[i];
  product.accumulator = under_way(lane, lanes);
  check_registers(lane, lanes, product.accumulator == nullptr);
  if (!product.accumulator) product.accumulator = &start_accumulator(lane, lanes);
  if (!current_options.eager) return;
  execute(product, lanes);
  give_back(*product.accumulator, false, lanes);
  const void* sums[kWarpgroup];
  for (unsigned t = 0; t < kWarpgroup; ++t) sums[t] = product.accumulator->of[t];
  note_written(lanes, sums);
}

SIMT_UNSEEN void complete(const Lane& lane, Lane* lanes, unsigned pending) {
  Warpgroup& group = group_of(lane);
  for (; group.first != group.issued; ++group.first) {
    Product& product = group.products[group.first % kMaxProducts];
    if (product.group + pending >= hopper.product_groups[lane.number]) break;
    if (!product.done) execute(product, lanes);
  }
  for (Accumulator& accumulator : group.accumulators) {
    bool needed = !accumulator.used;
    for (unsigned i = group.first; i != group.issued; ++i)
      needed = needed || group.products[i % kMaxProducts].accumulator == &accumulator;
    if (!needed) give_back(accumulator, true, lanes);
  }
  for (unsigned t = 0; t < kWarpgroup; ++t) {
    order_as(lanes[t]);
    order_set(&hopper.product_tokens[fiber_set()][lane.number / kWarpgroup]);
  }
  order_as_self();
}

}  // namespace

SIMT_UNSEEN void order_products(const Lane& lane, void* token) {
  const unsigned group = lane.number / kWarpgroup;
  order_as_engine(2 * kMaxTransfers + group);
  order_pass(&hopper.product_tokens[fiber_set()][group]);
  order_set(token);
  order_as_self();
}

SIMT_UNSEEN __attribute__((noinline)) void wgmma_fence() {
  use_hopper();
  hopper.fenced[this_lane().number] = true;
  note_fence(this_lane());
}

SIMT_UNSEEN __attribute__((noinline)) void wgmma_commit() {
  use_hopper();
  ++hopper.product_groups[this_lane().number];
}

SIMT_UNSEEN __attribute__((noinline)) void wgmma_issue(const WgmmaOperands& operands, const char* file, int line) {
  Lane& lane = this_lane();
  if (!join(lane, {Joint::product, false, 0, operands}, {file, line})) return;
  issue(lane, first_lane(lane));
  release(lane);
}

SIMT_UNSEEN __attribute__((noinline)) void wgmma_wait(unsigned pending, const char* file, int line) {
  Lane& lane = this_lane();
  if (join(lane, {Joint::wait, false, int(pending), {}}, {file, line})) {
    check_agreement(lane);
    group_of(lane).due = true;
    lane.wait = Wait::warpgroup;
    if (current_options.eager) complete_products();
    park(lane);
  }
  hopper.fenced[lane.number] = false;
}

SIMT_UNSEEN bool complete_products() {
  for (unsigned g = 0; g < machine.threads / kWarpgroup; ++g) {
    if (!hopper.warpgroups[g].due) continue;
    hopper.warpgroups[g].due = false;
    Lane* const lanes = machine.lanes + g * kWarpgroup;
    complete(lanes[0], lanes, unsigned(request_of(lanes[0]).count));
    for (unsigned i = 0; i < kWarpgroup; ++i) make_ready(lanes[i]);
    return true;
  }
  return false;
}

// --- registers --------------------

namespace {

/// Gives registers to the warpgroups that wait for them, as far as there are some.
SIMT_UNSEEN void hand_out() {
  for (unsigned g = 0; g < machine.threads / kWarpgroup; ++g) {
    Warpgroup& group = hopper.warpgroups[g];
    if (group.wanted == 0) continue;
    const unsigned more = (group.wanted - group.registers) * kWarpgroup;
    if (more > hopper.free_registers) continue;
    hopper.free_registers -= more;
    group.registers = group.wanted;
    group.wanted = 0;
    for (unsigned i = 0; i < kWarpgroup; ++i) {
      Lane& lane = machine.lanes[g * kWarpgroup + i];
      if (lane.wait == Wait::registers) make_ready(lane);
    }
  }
}

}  // namespace

SIMT_UNSEEN __attribute__((noinline)) void set_registers(int count, bool grow, const char* file, int line) {
  Lane& lane = this_lane();
  if (machine.threads % kWarpgroup != 0)
    fail({Defect::misuse, "setmaxnreg in a block that is not whole warpgroups", {file, line}, &lane});
  const bool last = join(lane, {Joint::registers, grow, count, {}}, {file, line});
  if (!last) return;
  check_agreement(lane);
  Warpgroup& group = group_of(lane);
  const unsigned wanted = unsigned(count);
  if (grow ? wanted < group.registers : wanted > group.registers)
    fail({Defect::misuse_of,
          grow ? "setmaxnreg.inc to fewer registers than the threads have"
               : "setmaxnreg.dec to more registers than the threads have",
          {file, line},
          &lane,
          nullptr,
          group.registers});
  Lane* const lanes = first_lane(lane);
  if (!grow) {
    hopper.free_registers += (group.registers - wanted) * kWarpgroup;
    group.registers = wanted;
    hand_out();
    release(lane);
    return;
  }
  group.wanted = wanted;
  for (unsigned i = 0; i < kWarpgroup; ++i) lanes[i].wait = Wait::registers;
  hand_out();  // makes this thread ready too where there are enough: it runs on when its turn comes
  park(lane);
}

// --- the end of a thread --------------------

SIMT_UNSEEN void check_hopper(const Lane& lane, bool last) {
  if (!hopper.used) return;
  for (const Transfer& store : hopper.stores)
    if (store.used && store.lane == &lane && !store.waited)
      fail({Defect::misuse, "leaves the kernel without tma_store_wait_read for the store of TMA", store.source, &lane});
  if ((lane.number / kWarpgroup + 1) * kWarpgroup <= machine.threads) {
    const Warpgroup& group = group_of(lane);
    if (group.first != group.issued)
      fail({Defect::misuse, "leaves the kernel without wgmma_wait for the wgmma",
            group.products[group.first % kMaxProducts].source, &lane});
  }
  if (!last) return;
  write_stores();
  for (const Transfer& load : hopper.loads)
    if (load.used)
      fail({Defect::misuse, "the block ends before the load of TMA: nobody waited for it", load.source, load.lane});
  for (unsigned i = 0; i < hopper.barrier_count; ++i)
    if (hopper.barriers[i].bytes != 0)
      fail({Defect::misuse_of,
            "an mbarrier whose announced bytes are not those that loads brought, over by",
            {nullptr, 0},
            &lane,
            nullptr,
            uint64_t(hopper.barriers[i].bytes)});
}

}  // namespace fire::simt
