// Dumps: what every case gave on one machine, as lines of text.
//   sparse-experts conformance 1
//   <key> <value>                          who, when: device, architecture, driver, date, emulated
//   case <name> <kind> seed=<n> words=<n> folded=<0|1>
//   <up to eight words in hex>
//   end
// Long exact results are folded: two words (an FNV-1a hash) for each 256.
#pragma once

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "conformance/cases.h"

namespace conformance {

struct Dump {
  std::map<std::string, std::string> about;
  struct Entry {
    std::string kind;
    uint64_t seed = 0;
    bool folded = false;
    std::vector<uint32_t> words;
  };
  std::map<std::string, Entry> entries;
};

constexpr size_t kMaxPlainWords = 4096;
constexpr size_t kFoldWords = 256;

inline bool folds(const Case& one) {
  return one.kind == Kind::kExact && one.out.size() > kMaxPlainWords;
}

inline std::vector<uint32_t> fold(const std::vector<uint32_t>& words) {
  std::vector<uint32_t> hashes;
  for (size_t begin = 0; begin < words.size(); begin += kFoldWords) {
    uint64_t hash = 14695981039346656037ull;
    for (size_t i = begin; i < begin + kFoldWords && i < words.size(); ++i) {
      for (int byte = 0; byte < 4; ++byte) {
        hash = (hash ^ (words[i] >> (8 * byte) & 0xffu)) * 1099511628211ull;
      }
    }
    hashes.push_back(static_cast<uint32_t>(hash));
    hashes.push_back(static_cast<uint32_t>(hash >> 32));
  }
  return hashes;
}

inline bool write_dump(const std::string& path, const std::vector<Case>& cases,
                       const std::vector<std::pair<std::string, std::string>>& about) {
  std::ofstream file(path);
  file << "sparse-experts conformance 1\n";
  for (const auto& [key, value] : about) file << key << ' ' << value << '\n';
  for (const Case& one : cases) {
    const std::vector<uint32_t> words = folds(one) ? fold(one.out) : one.out;
    file << "case " << one.name << ' ' << kind_name(one.kind) << " seed=" << one.seed
         << " words=" << words.size() << " folded=" << (folds(one) ? 1 : 0) << '\n';
    for (size_t i = 0; i < words.size(); ++i) {
      char text[16];
      std::snprintf(text, sizeof text, "%08" PRIx32, words[i]);
      file << text << (i % 8 == 7 || i + 1 == words.size() ? '\n' : ' ');
    }
  }
  file << "end\n";
  file.close();
  return !file.fail();
}

// False with a reason: not a whole dump.
inline bool read_dump(const std::string& path, Dump* dump, std::string* why) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line) || line != "sparse-experts conformance 1") {
    *why = "not a conformance dump";
    return false;
  }
  Dump::Entry* entry = nullptr;
  size_t expected = 0;
  std::string name;
  const auto whole = [&] { return entry == nullptr || entry->words.size() == expected; };
  while (std::getline(file, line)) {
    std::istringstream words(line);
    if (line == "end") {
      if (whole()) return true;
      break;
    }
    if (line.compare(0, 5, "case ") == 0) {
      if (!whole()) break;
      std::string skipped, kind;
      words >> skipped >> name >> kind;
      unsigned long long seed = 0, count = 0;
      int folded = 0;
      std::string rest;
      std::getline(words, rest);
      if (std::sscanf(rest.c_str(), " seed=%llu words=%llu folded=%d", &seed, &count, &folded) !=
          3) {
        break;
      }
      entry = &dump->entries[name];
      *entry = {kind, seed, folded != 0, {}};
      expected = static_cast<size_t>(count);
    } else if (entry == nullptr) {
      std::string key, value;
      words >> key;
      std::getline(words >> std::ws, value);
      dump->about[key] = value;
    } else {
      std::string word;
      while (words >> word) {
        entry->words.push_back(static_cast<uint32_t>(std::stoul(word, nullptr, 16)));
      }
    }
  }
  *why = "cut off or damaged" + (name.empty() ? std::string() : " at case " + name);
  return false;
}

}  // namespace conformance
