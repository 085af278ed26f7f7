// A layer's matrices as its backend wants them, made from rows as the oracle reads them.
#pragma once

#include <deque>
#include <map>
#include <vector>

#include "abi/backend.h"
#include "oracle/quantised.h"

namespace native_test {

// What is packed in place of a matrix of rows, by its pointer.
using QuantisedMatrices = std::map<const void*, QuantisedMatrix>;

class PackedLayer {
 public:
  // Entries that are NULL or `untouched` stay what they are.
  PackedLayer(const SeBackend* backend, SeDevice* device, const SeMoeLayer& layer,
              const void* untouched = nullptr, const QuantisedMatrices& quantised = {});
  PackedLayer(const PackedLayer&) = delete;
  PackedLayer& operator=(const PackedLayer&) = delete;

  const SeMoeLayer& layer() const { return layer_; }

 private:
  void pack(SeMatrixTable* table, int64_t count, int32_t dtype);
  void pack(SeExperts* experts);
  // In pieces of two granules, as a load brings them; rows(first, count) is what it brings.
  template <typename Rows>
  const void* pack(int64_t num_rows, int64_t num_cols, int32_t dtype, const SeMatrixFormat& format,
                   const Rows& rows);

  const SeBackend* backend_;
  SeDevice* device_;
  const void* untouched_;
  const QuantisedMatrices& quantised_;
  SeMoeLayer layer_;
  std::deque<std::vector<char>> bytes_;
  std::deque<std::vector<const void*>> tables_;
  std::deque<std::vector<SeMatrixFormat>> formats_;
  std::deque<std::vector<uint8_t>> format_of_;
};

}  // namespace native_test
