#include "oracle/packed_layer.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/matrix_format.h"
#include "cpp/check.h"

namespace native_test {

PackedLayer::PackedLayer(const SeBackend* backend, SeDevice* device, const SeMoeLayer& layer,
                         const void* untouched, const QuantisedMatrices& quantised)
    : backend_(backend),
      device_(device),
      untouched_(untouched),
      quantised_(quantised),
      layer_(layer) {
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

template <typename Rows>
const void* PackedLayer::pack(int64_t num_rows, int64_t num_cols, int32_t dtype,
                              const SeMatrixFormat& format, const Rows& rows) {
  // Of exactly the size that was asked for; all ones is a NaN in each dtype.
  bytes_.emplace_back(backend_->matrix_bytes(device_, num_rows, num_cols, dtype, &format), '\xff');
  const int64_t granule = std::max<int64_t>(1, backend_->matrix_granule(device_));
  for (int64_t row = 0; row < num_rows; row += 2 * granule) {
    SeMatrixRows part = rows(row, std::min(2 * granule, num_rows - row));
    part.matrix = bytes_.back().data();
    SeStatus status{};
    CHECK_MESSAGE(backend_->matrix_write(device_, &part, &status) == SE_OK,
                  "matrix_write: ", std::string(status.message));
  }
  return bytes_.back().data();
}

void PackedLayer::pack(SeMatrixTable* table, int64_t count, int32_t dtype) {
  if (table->data == nullptr) return;
  std::vector<const void*> packed(table->data, table->data + count);
  const SeMatrixFormat plain =
      table->formats != nullptr ? table->formats[0] : sparse_experts::float_format(dtype);
  std::vector<SeMatrixFormat> formats;
  std::vector<uint8_t> format_of(count);
  for (int64_t e = 0; e < count; ++e) {
    const void* entry = packed[e];
    if (entry == nullptr || entry == untouched_) continue;
    if (const auto found = quantised_.find(entry); found != quantised_.end()) {
      const QuantisedMatrix& matrix = found->second;
      const auto same = [&](const SeMatrixFormat& other) {
        return std::memcmp(&other, &matrix.format, sizeof other) == 0;
      };
      const auto at = std::find_if(formats.begin(), formats.end(), same);
      format_of[e] = static_cast<uint8_t>(at - formats.begin());
      if (at == formats.end()) formats.push_back(matrix.format);
      packed[e] = pack(table->rows, table->cols, dtype, matrix.format,
                       [&](int64_t first, int64_t num_rows) {
                         return matrix.rows_of(first, num_rows, dtype, nullptr);
                       });
      continue;
    }
    packed[e] = pack(table->rows, table->cols, dtype, plain, [&](int64_t first, int64_t num_rows) {
      SeMatrixRows rows{};
      rows.rows = table->rows;
      rows.cols = table->cols;
      rows.dtype = dtype;
      rows.format = &plain;
      rows.global = 1;
      rows.first_row = first;
      rows.num_rows = num_rows;
      rows.source = static_cast<const char*>(entry) +
                    sparse_experts::code_row_bytes(plain.code, first * table->row_stride);
      rows.source_stride = table->row_stride;
      return rows;
    });
  }
  tables_.push_back(std::move(packed));
  table->data = tables_.back().data();
  if (formats.empty()) return;
  formats_.push_back(std::move(formats));
  format_of_.push_back(std::move(format_of));
  table->formats = formats_.back().data();
  table->num_formats = static_cast<int64_t>(formats_.back().size());
  table->format_of = format_of_.back().data();
}

}  // namespace native_test
