// A layer's matrices as its backend wants them, made from rows as the oracle reads them.
#pragma once

#include <deque>
#include <vector>

#include "abi/backend.h"

namespace native_test {

class PackedLayer {
 public:
  // Entries that are NULL or `untouched` stay what they are.
  PackedLayer(const SeBackend* backend, SeDevice* device, const SeMoeLayer& layer,
              const void* untouched = nullptr);
  PackedLayer(const PackedLayer&) = delete;
  PackedLayer& operator=(const PackedLayer&) = delete;

  const SeMoeLayer& layer() const { return layer_; }

 private:
  void pack(SeMatrixTable* table, int64_t count, int32_t dtype);
  void pack(SeExperts* experts);

  const SeBackend* backend_;
  SeDevice* device_;
  const void* untouched_;
  SeMoeLayer layer_;
  std::deque<std::vector<char>> bytes_;
  std::deque<std::vector<const void*>> tables_;
};

}  // namespace native_test
