// Which translation belongs to a launch: the one with the mangled name of the kernel's function, which is in the symbols of
// the program itself.
#include "ptx/translations.h"

#include <elf.h>

#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "simt/state.h"
#include "tensor/error.h"

namespace fire::ptx {
namespace {

/// A function-local static, so that registration works whatever the order of static initialisers.
std::map<std::string, Body>& translations() {
  static std::map<std::string, Body> all;
  return all;
}

class Program {
 public:
  Program() {
    std::ifstream file("/proc/self/exe", std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    const auto& header = at<Elf64_Ehdr>(bytes, 0);
    for (int i = 0; i < header.e_shnum; ++i) {
      const auto& section = at<Elf64_Shdr>(bytes, header.e_shoff + uint64_t(i) * header.e_shentsize);
      if (section.sh_type == SHT_SYMTAB) read_symbols(bytes, section, header);
    }
  }

  /// The name of the function that begins at a distance from another one.
  const std::string* name(intptr_t distance) const {
    const auto found = names_.find(uint64_t(origin_ + distance));
    return found == names_.end() ? nullptr : &found->second;
  }

 private:
  template <class T>
  static const T& at(const std::vector<char>& bytes, uint64_t offset) {
    if (offset + sizeof(T) > bytes.size()) throw Error(Code::internal, "/proc/self/exe is no ELF file with symbols");
    return *reinterpret_cast<const T*>(bytes.data() + offset);
  }

  void read_symbols(const std::vector<char>& bytes, const Elf64_Shdr& section, const Elf64_Ehdr& header) {
    const auto& strings = at<Elf64_Shdr>(bytes, header.e_shoff + uint64_t{section.sh_link} * header.e_shentsize);
    for (uint64_t offset = 0; offset < section.sh_size; offset += sizeof(Elf64_Sym)) {
      const auto& symbol = at<Elf64_Sym>(bytes, section.sh_offset + offset);
      if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC) continue;
      const std::string name = &at<char>(bytes, strings.sh_offset + symbol.st_name);
      if (name == "fire_ptx_origin") origin_ = intptr_t(symbol.st_value);
      names_.emplace(symbol.st_value, name);
    }
  }

  std::map<uint64_t, std::string> names_;  // by address in the file
  intptr_t origin_ = 0;
};

}  // namespace

void Translations::add(const Translation* table, size_t count) {
  for (const Translation* t = table; t != table + count; ++t)
    if (!translations().emplace(t->name, t->body).second)
      throw Error(Code::internal, std::string("two kernels have the mangled name ") + t->name);
}

}  // namespace fire::ptx

/// Tells where the program was loaded.
extern "C" void fire_ptx_origin() {}

namespace fire::ptx {
namespace {

void run_translation(const void* launch) {
  const auto& asked = *static_cast<const simt::Launch*>(launch);
  reinterpret_cast<Body>(const_cast<void*>(asked.function))(asked.parameters, nullptr);
}

/// The launch with the translation in the place of the kernel.
simt::Launch translated(const simt::Launch& asked) {
  static const Program program;
  const std::string* const name = program.name(static_cast<const char*>(asked.function) -
                                               reinterpret_cast<const char*>(&fire_ptx_origin));
  const auto found = name ? translations().find(*name) : translations().end();
  if (found == translations().end())
    throw Error(Code::cuda, std::string("kernel ") + asked.kernel + " has no translation: " +
                                (name ? *name : "its function has no name in the program") +
                                " (with --only, cuda/<name>.cu of every kernel of the test has to be named)");
  static simt::Launch launch;  // one launch at a time
  launch = asked;
  launch.function = reinterpret_cast<const void*>(found->second);
  launch.body = run_translation;
  launch.arguments = &launch;
  return launch;
}

const bool hooked = (simt::replace_body = translated, true);

}  // namespace
}  // namespace fire::ptx
