// Names of functions. dladdr knows only exported ones, kernels mostly are not: so the symbol table
// of the file that holds the function is read as well (ELF, 64 bits).
#include "symbols.h"

#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

#include "simt/engine.h"

#if defined(__linux__)
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#endif

namespace simt {
namespace {

std::string demangled(const char* name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  if (status != 0 || text == nullptr) return name;
  std::string result = text;
  std::free(text);
  return result;
}

#if defined(__linux__)

// The name of the function that holds the offset from the module's base.
std::string symbol_in_file(const char* path, uint64_t offset) {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return "";
  struct stat info;
  std::string result;
  if (fstat(file, &info) == 0 && static_cast<size_t>(info.st_size) > sizeof(Elf64_Ehdr)) {
    const size_t bytes = static_cast<size_t>(info.st_size);
    void* memory = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file, 0);
    if (memory != MAP_FAILED) {
      const char* base = static_cast<const char*>(memory);
      const auto* header = reinterpret_cast<const Elf64_Ehdr*>(base);
      const bool readable = std::memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 &&
                            header->e_ident[EI_CLASS] == ELFCLASS64 &&
                            header->e_shoff + header->e_shnum * sizeof(Elf64_Shdr) <= bytes;
      const auto* sections = reinterpret_cast<const Elf64_Shdr*>(base + header->e_shoff);
      for (int i = 0; readable && i < header->e_shnum && result.empty(); ++i) {
        if (sections[i].sh_type != SHT_SYMTAB && sections[i].sh_type != SHT_DYNSYM) continue;
        const Elf64_Shdr& names = sections[sections[i].sh_link];
        if (sections[i].sh_offset + sections[i].sh_size > bytes ||
            names.sh_offset + names.sh_size > bytes) {
          continue;
        }
        const auto* symbols = reinterpret_cast<const Elf64_Sym*>(base + sections[i].sh_offset);
        const size_t count = sections[i].sh_size / sizeof(Elf64_Sym);
        for (size_t j = 0; j < count; ++j) {
          if (ELF64_ST_TYPE(symbols[j].st_info) != STT_FUNC || symbols[j].st_shndx == SHN_UNDEF)
            continue;
          if (offset < symbols[j].st_value ||
              offset >= symbols[j].st_value + (symbols[j].st_size > 0 ? symbols[j].st_size : 1) ||
              symbols[j].st_name >= names.sh_size) {
            continue;
          }
          result = base + names.sh_offset + symbols[j].st_name;
          break;
        }
      }
      munmap(memory, bytes);
    }
  }
  close(file);
  return result;
}

#endif

std::string look_up(const void* function) {
  Dl_info info;
  if (dladdr(function, &info) == 0) return "";
  if (info.dli_sname != nullptr && info.dli_saddr == function) return demangled(info.dli_sname);
#if defined(__linux__)
  const uint64_t offset = static_cast<uint64_t>(static_cast<const char*>(function) -
                                                static_cast<const char*>(info.dli_fbase));
  // An executable at a fixed address counts from 0, everything else from its base.
  std::string name = symbol_in_file(info.dli_fname, offset);
  if (name.empty()) name = symbol_in_file("/proc/self/exe", reinterpret_cast<uint64_t>(function));
  if (!name.empty()) return demangled(name.c_str());
#endif
  return "";
}

}  // namespace

std::string function_name(const void* function) {
  static std::mutex* const mutex = new std::mutex;
  static auto* const known = new std::map<const void*, std::string>;
  const std::lock_guard<std::mutex> lock(*mutex);
  const auto found = known->find(function);
  if (found != known->end()) return found->second;
  std::string name = look_up(function);
  known->emplace(function, name);
  return name;
}

namespace detail {
namespace {

// What addr2line says of the place: the innermost line that is not in our own headers. Needs the
// tool and debug information; without either there is just no line.
std::string ask_addr2line(const char* module, uint64_t offset) {
  const char* quoted = module;
  for (const char* c = quoted; *c != 0; ++c) {
    if (*c == '\'') return "";
  }
  char command[4400];
  const int length =
      std::snprintf(command, sizeof command, "addr2line -i -e '%s' 0x%llx 2>/dev/null", module,
                    static_cast<unsigned long long>(offset));
  if (length < 0 || static_cast<size_t>(length) >= sizeof command) return "";
  std::FILE* pipe = popen(command, "r");
  if (pipe == nullptr) return "";
  std::string found;
  char line[4096];
  while (std::fgets(line, sizeof line, pipe) != nullptr) {
    std::string text = line;
    text = text.substr(0, text.find_first_of(" \n"));  // no discriminator
    if (text.find("/include/simt/") != std::string::npos || text.find("??") == 0) continue;
    if (found.empty()) found = text;
  }
  pclose(pipe);
  return found;
}

// A return address lies behind its call.
std::string source_line(const void* pc) {
  static std::mutex* const mutex = new std::mutex;
  static auto* const known = new std::map<const void*, std::string>;
  const std::lock_guard<std::mutex> lock(*mutex);
  const auto found = known->find(pc);
  if (found != known->end()) return found->second;
  Dl_info info;
  std::string text;
  if (dladdr(pc, &info) != 0) {
    const char* call = static_cast<const char*>(pc) - 1;
    text = ask_addr2line(info.dli_fname,
                         static_cast<uint64_t>(call - static_cast<const char*>(info.dli_fbase)));
    if (text.empty()) text = ask_addr2line(info.dli_fname, reinterpret_cast<uint64_t>(call));
  }
  known->emplace(pc, text);
  return text;
}

}  // namespace

std::string describe_code(const void* pc) {
  const std::string name = function_name(static_cast<const char*>(pc) - 1);
  const std::string line = source_line(pc);
  std::string text = name;
  if (name.empty()) {
    Dl_info info;
    char offset[32] = "?";
    if (dladdr(pc, &info) != 0) {
      std::snprintf(offset, sizeof offset, "+0x%lx",
                    static_cast<unsigned long>(static_cast<const char*>(pc) -
                                               static_cast<const char*>(info.dli_fbase)));
      text = std::string(info.dli_fname) + offset;
    }
  }
  return line.empty() ? text : line + " in " + text;
}

Site source_site(const void* pc) {
  static auto* const kept = new std::map<std::string, int>;  // owns the names of files
  static std::mutex* const mutex = new std::mutex;
  const std::string text = source_line(pc);
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return Site();
  const std::lock_guard<std::mutex> lock(*mutex);
  const auto entry = kept->emplace(text.substr(0, colon), 0).first;
  return {entry->first.c_str(), std::atoi(text.c_str() + colon + 1)};
}

}  // namespace detail

}  // namespace simt
