#include "cpu/ops/gather_columns.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/matrix_format.h"
#include "cpu/device.h"
#include "cpu/layouts/matrix_panels.h"

namespace sparse_experts::cpu {
namespace {

bool has_permuted(const SeMatrixTable& table) {
  if (table.data == nullptr || table.formats == nullptr) return false;
  return std::any_of(table.formats, table.formats + table.num_formats, is_permuted);
}

// Rows of `cols` columns, as often as matrices that read them have an order of their own.
int64_t elements_for(int64_t num_rows, int64_t cols, bool is_first, bool is_second = false) {
  const int64_t copies = (is_first ? 1 : 0) + (is_second ? 1 : 0);
  return copies * RowLayout::slab_elements(num_rows, cols);
}

int64_t first_elements(const SeExperts& experts, int64_t num_rows) {
  return elements_for(num_rows, experts.up.cols, has_permuted(experts.up),
                      has_permuted(experts.gate));
}

int64_t second_elements(const SeExperts& experts, int64_t num_rows) {
  return elements_for(num_rows, experts.down.cols, has_permuted(experts.down));
}

// Rows of one segment that are copied.
struct Gather {
  ActivationRows from;
  const int32_t* permutation;
  int64_t k;
  bool is_bf16;
  char* to;
  RowLayout to_layout;
  int64_t first;  // of all gathers' rows
  int64_t num_rows;
};

template <typename T>
void gather_row(const Gather& gather, int64_t row) {
  const int64_t from_row = gather.from.rows != nullptr ? gather.from.rows[row] : row;
  const T* from =
      static_cast<const T*>(gather.from.data) + from_row * gather.from.layout.row_stride;
  const int64_t from_stride = gather.from.layout.slab_stride;
  for (int64_t col = 0; col < gather.k; col += kSlab) {
    T* to = reinterpret_cast<T*>(gather.to) + gather.to_layout.offset(row, col);
    const int32_t* permutation = gather.permutation + col;
    const int64_t n = std::min(kSlab, gather.k - col);
    for (int64_t j = 0; j < n; ++j) {
      const auto at = static_cast<uint32_t>(permutation[j]);
      to[j] = from[at / kSlab * from_stride + at % kSlab];
    }
  }
}

class Gathers {
 public:
  Gathers(const RunContext& context, char* scratch) : context_(context), scratch_(scratch) {}

  void add(MatmulSegment* segment) {
    const int32_t* of_up = permutation_of(*segment, segment->up, segment->up_format);
    const int32_t* of_gate = permutation_of(*segment, segment->gate, segment->gate_format);
    if (of_up == nullptr && of_gate == nullptr) return;
    const ActivationRows x = segment->x;
    if (of_up != nullptr) segment->x = gathered(*segment, x, of_up);
    if (segment->gate == nullptr) return;
    // Both read the same rows, and most often both were quantised in the same order.
    if (of_up != nullptr && of_gate != nullptr &&
        std::memcmp(of_up, of_gate, static_cast<size_t>(segment->k) * sizeof *of_up) == 0)
      return;
    segment->gate_x = of_gate != nullptr ? gathered(*segment, x, of_gate) : x;
  }

  void run() const {
    if (gathers_.empty()) return;
    context_.for_rows(num_rows_, most_columns_, [&](int64_t first, int64_t last) {
      auto gather = std::upper_bound(gathers_.begin(), gathers_.end(), first,
                                     [](int64_t row, const Gather& g) { return row < g.first; });
      --gather;
      for (int64_t row = first; row < last; ++row) {
        while (row >= gather->first + gather->num_rows) ++gather;
        if (gather->is_bf16)
          gather_row<uint16_t>(*gather, row - gather->first);
        else
          gather_row<uint32_t>(*gather, row - gather->first);
      }
    });
  }

 private:
  const int32_t* permutation_of(const MatmulSegment& segment, const void* weights,
                                const SeMatrixFormat& format) const {
    if (weights == nullptr || !is_permuted(format)) return nullptr;
    return MatrixPanels(context_.kernels->panel_width, segment.n, segment.k, format)
        .permutation(weights);
  }

  // Places them; run() fills them.
  ActivationRows gathered(const MatmulSegment& segment, const ActivationRows& from,
                          const int32_t* permutation) {
    const RowLayout layout = RowLayout::slabs(segment.num_rows);
    gathers_.push_back({from, permutation, segment.k, segment.x_is_bf16, scratch_, layout,
                        num_rows_, segment.num_rows});
    const ActivationRows to = {scratch_, layout};
    scratch_ += RowLayout::slab_elements(segment.num_rows, segment.k) * (segment.x_is_bf16 ? 2 : 4);
    num_rows_ += segment.num_rows;
    most_columns_ = std::max(most_columns_, segment.k);
    return to;
  }

  const RunContext& context_;
  char* scratch_;
  std::vector<Gather> gathers_;
  int64_t num_rows_ = 0;
  int64_t most_columns_ = 0;
};

}  // namespace

int64_t gathered_elements(const SeMoeLayer& layer, int64_t num_tokens) {
  const int64_t num_slots = num_tokens * layer.routing.top_k;
  int64_t first = first_elements(layer.experts, num_slots);
  int64_t second = second_elements(layer.experts, num_slots);
  if (layer.shared.num_experts > 0) {
    first += first_elements(layer.shared, num_tokens);
    second += second_elements(layer.shared, num_tokens);
  }
  if (layer.latent_size == 0) return std::max(first, second);
  const auto latent = [&](const SeMatrixTable& matrix) {
    return elements_for(num_tokens, matrix.cols, has_permuted(matrix));
  };
  return std::max({first, second, latent(layer.latent_down), latent(layer.latent_up)});
}

void gather_columns(const RunContext& context, char* scratch) {
  Gathers gathers(context, scratch);
  for (MatmulSegment& segment : context.device->segments) gathers.add(&segment);
  gathers.run();
}

}  // namespace sparse_experts::cpu
