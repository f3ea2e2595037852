// The ring against a runtime that does everything at the latest legal moment: a queued copy runs when something waits
// for it, not before. A ring that reuses memory too early, or reads it too early, then gives wrong bytes.
#include "cuda/pinned_ring.h"

#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <set>

#include "check.h"
#include "tensor/error.h"

namespace fire::cuda {
namespace {

struct Command {
  void* to;
  const void* from;
  size_t bytes;
  Event event;  // or a copy
};

struct Queue {
  std::deque<Command> commands;
  int waits = 0;
  std::set<const void*> pinned;
  std::set<Event> events;
};
Queue queue;

/// Runs the first `count` commands.
void run(size_t count) {
  for (; count > 0; --count) {
    const Command c = queue.commands.front();
    queue.commands.pop_front();
    if (c.event == nullptr) std::memcpy(c.to, c.from, c.bytes);
  }
}

}  // namespace

void* allocate_pinned(size_t bytes) {
  void* data = std::malloc(bytes);
  std::memset(data, 0xee, bytes);
  queue.pinned.insert(data);
  return data;
}
void release_pinned(void* data) noexcept {
  CHECK(queue.pinned.erase(data) == 1);
  std::free(data);
}
Event create_event() {
  Event event = std::malloc(1);
  queue.events.insert(event);
  return event;
}
void destroy_event(Event event) noexcept {
  if (event == nullptr) return;
  CHECK(queue.events.erase(event) == 1);
  std::free(event);
}
void record(Event event, Stream) { queue.commands.push_back({nullptr, nullptr, 0, event}); }
/// For the latest recording; an event that was never recorded has happened.
void wait(Event event) {
  ++queue.waits;
  for (size_t i = queue.commands.size(); i > 0; --i)
    if (queue.commands[i - 1].event == event) return run(i);
}
void synchronize(Stream) { run(queue.commands.size()); }
void copy_to_device(void* device, const void* host, size_t bytes, Stream) {
  CHECK(bytes > 0);
  queue.commands.push_back({device, host, bytes, nullptr});
}
void copy_to_host(void* host, const void* device, size_t bytes, Stream) {
  CHECK(bytes > 0);
  queue.commands.push_back({host, device, bytes, nullptr});
}

namespace {

std::vector<unsigned char> some_bytes(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<unsigned char> bytes(count);
  for (unsigned char& b : bytes) b = static_cast<unsigned char>(random());
  return bytes;
}

TEST("uploads of any size arrive although the host reuses its memory at once") {
  PinnedRing ring(256, 3);
  std::vector<std::vector<unsigned char>> sent, received;
  for (const size_t size : {1, 63, 64, 65, 255, 256, 257, 768, 769, 5000, 0, 7, 7, 7})
    sent.push_back(some_bytes(size, static_cast<unsigned>(sent.size())));
  for (const auto& bytes : sent) received.emplace_back(bytes.size(), 0);
  for (size_t i = 0; i < sent.size(); ++i) {
    std::vector<unsigned char> reused = sent[i];
    ring.upload(received[i].data(), reused.data(), reused.size(), nullptr);
    std::fill(reused.begin(), reused.end(), 0xdd);
  }
  synchronize(nullptr);
  for (size_t i = 0; i < sent.size(); ++i) CHECK(received[i] == sent[i]);
}

TEST("an upload waits only when it has gone round the whole ring") {
  PinnedRing ring(256, 4);
  const std::vector<unsigned char> bytes = some_bytes(64, 1);
  std::vector<unsigned char> device(64 * 17);
  queue.waits = 0;
  for (size_t i = 0; i < 16; ++i) ring.upload(device.data() + 64 * i, bytes.data(), 64, nullptr);
  CHECK(queue.waits == 0);
  ring.upload(device.data() + 64 * 16, bytes.data(), 64, nullptr);
  CHECK(queue.waits == 1);
  synchronize(nullptr);
  for (size_t i = 0; i < 17; ++i) CHECK(std::memcmp(device.data() + 64 * i, bytes.data(), 64) == 0);
}

TEST("values made on the way are asked for once each, in pieces cut at multiples of 64 bytes") {
  PinnedRing ring(128, 2);
  std::vector<unsigned char> first(40, 0), device(1000, 0);
  ring.upload(first.data(), some_bytes(40, 2).data(), 40, nullptr);
  size_t next = 0;
  const auto fill = [&](void* to, size_t offset, size_t bytes) {
    CHECK(offset == next);
    CHECK(offset % 64 == 0);
    for (size_t i = 0; i < bytes; ++i) static_cast<unsigned char*>(to)[i] = static_cast<unsigned char>(offset + i);
    next = offset + bytes;
  };
  ring.upload(device.data(), device.size(), fill, nullptr);
  CHECK(next == device.size());
  synchronize(nullptr);
  for (size_t i = 0; i < device.size(); ++i) CHECK(device[i] == static_cast<unsigned char>(i));
}

TEST("downloads bring what the stream had written before them, in any mix with uploads") {
  PinnedRing ring(256, 2);
  std::vector<unsigned char> device(3000);
  for (const size_t size : {1, 255, 256, 257, 512, 513, 3000}) {
    const std::vector<unsigned char> bytes = some_bytes(size, static_cast<unsigned>(size));
    std::vector<unsigned char> back(size + 1, 0xaa);
    ring.upload(device.data(), bytes.data(), size, nullptr);
    ring.download(back.data(), device.data(), size, nullptr);
    CHECK(std::memcmp(back.data(), bytes.data(), size) == 0);
    CHECK(back[size] == 0xaa);
  }
  unsigned char byte = 1;
  ring.upload(device.data(), &byte, 1, nullptr);
  ring.download(nullptr, device.data(), 0, nullptr);  // an empty one waits too
  CHECK(queue.commands.empty());
}

TEST("a download waits once, and nothing before it is waited for again") {
  PinnedRing ring(256, 4);
  const std::vector<unsigned char> bytes = some_bytes(64, 1);
  std::vector<unsigned char> device(64), back(64);
  queue.waits = 0;
  for (int i = 1; i <= 20; ++i) {
    ring.upload(device.data(), bytes.data(), 64, nullptr);
    ring.download(back.data(), device.data(), 64, nullptr);
    CHECK(queue.waits == i && back == bytes);
  }
}

TEST("the ring gives back its memory and events") {
  { PinnedRing ring(100, 5); }
  CHECK(queue.pinned.empty());
  CHECK(queue.events.empty());
}

}  // namespace
}  // namespace fire::cuda
