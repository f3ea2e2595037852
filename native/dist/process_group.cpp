#include "dist/process_group.h"

#include <utility>

#include "dist/environment.h"
#include "dist/mpi.h"
#include "dist/nccl.h"

namespace fire {
namespace {

/// The library, if there is one.
template <class Library>
const Library& required(const char* name, const Library& library) {
  if (!library.missing.empty())
    throw Error(Code::ranks,
                std::string("the ranks have no way to each other: ") + name + " is missing: " + library.missing);
  return library;
}

}  // namespace

std::unique_ptr<ProcessGroup> join_group(const GroupSpec& spec, Ops& ops, Cancel cancel,
                                         const std::shared_ptr<GroupEnd>& end) {
  if (spec.transport == Transport::mpi) {
    if (ops.is_gpu())
      throw Error(Code::invalid_argument,
                  "group.transport: mpi needs device: cpu; GPUs add up their gradients by nccl");
    return join_mpi(required("MPI", mpi()), spec, cancel, end);
  }
  std::unique_ptr<SideQueue> queue = ops.side_queue();
  if (!queue)
    throw Error(Code::invalid_argument, "group.transport: nccl needs device: cuda; CPUs add up their gradients by mpi");
  return join_nccl(required("NCCL", nccl()), spec, std::move(queue), cancel, end);
}

TransportReport transport_report(Transport transport) {
  if (transport == Transport::mpi) return {mpi().version, mpi().missing};
  return {nccl().version, nccl().missing};
}

std::string new_group_id() {
  const NcclLibrary& library = required("NCCL", nccl());
  NcclLibrary::UniqueId id{};
  const int result = library.get_unique_id(&id);
  if (result != NcclLibrary::success)
    throw Error(Code::ranks, std::string("NCCL: ncclGetUniqueId: ") + library.get_error_string(result) +
                                 "; NCCL_SOCKET_IFNAME names the network to use");
  std::string digits;
  for (const char byte : id.bytes)
    for (const int shift : {4, 0}) digits += "0123456789abcdef"[(static_cast<unsigned char>(byte) >> shift) & 15];
  return digits;
}

double group_timeout() { return number_from_environment("FIRE_GROUP_TIMEOUT", 0.001, 1e6, 600); }

}  // namespace fire
