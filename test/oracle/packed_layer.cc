#include "oracle/packed_layer.h"

#include <algorithm>

#include "core/dtype.h"
#include "core/matrix_format.h"
#include "cpp/check.h"

namespace native_test {

PackedLayer::PackedLayer(const SeBackend* backend, SeDevice* device, const SeMoeLayer& layer,
                         const void* untouched)
    : backend_(backend), device_(device), untouched_(untouched), layer_(layer) {
  pack(&layer_.experts);
  pack(&layer_.shared);
  pack(&layer_.latent_down, 1, layer.experts.dtype);
  pack(&layer_.latent_up, 1, layer.experts.dtype);
}

void PackedLayer::pack(SeExperts* experts) {
  if (experts->num_experts == 0) return;
  for (SeMatrixTable* table : {&experts->gate, &experts->up, &experts->down})
    pack(table, experts->num_experts, experts->dtype);
}

void PackedLayer::pack(SeMatrixTable* table, int64_t count, int32_t dtype) {
  if (table->data == nullptr) return;
  std::vector<const void*> packed(table->data, table->data + count);
  const SeMatrixFormat format = sparse_experts::float_format(dtype);
  const int64_t granule = std::max<int64_t>(1, backend_->matrix_granule(device_));
  for (const void*& entry : packed) {
    if (entry == nullptr || entry == untouched_) continue;
    // Of exactly the size that was asked for; all ones is a NaN in each dtype.
    bytes_.emplace_back(backend_->matrix_bytes(device_, table->rows, table->cols, dtype, &format),
                        '\xff');
    // In pieces of two granules, as a load brings them.
    for (int64_t row = 0; row < table->rows; row += 2 * granule) {
      SeMatrixRows rows{};
      rows.matrix = bytes_.back().data();
      rows.rows = table->rows;
      rows.cols = table->cols;
      rows.dtype = dtype;
      rows.format = &format;
      rows.global = 1;
      rows.first_row = row;
      rows.num_rows = std::min(2 * granule, table->rows - row);
      rows.source = static_cast<const char*>(entry) +
                    row * table->row_stride * sparse_experts::dtype_bytes(dtype);
      rows.source_stride = table->row_stride;
      SeStatus status{};
      CHECK_MESSAGE(backend_->matrix_write(device_, &rows, &status) == SE_OK, "matrix_write");
    }
    entry = bytes_.back().data();
  }
  tables_.push_back(std::move(packed));
  table->data = tables_.back().data();
}

}  // namespace native_test
