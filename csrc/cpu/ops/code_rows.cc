#include "cpu/ops/code_rows.h"

#include <algorithm>
#include <vector>

#include "core/matrix_format.h"
#include "cpu/device.h"
#include "cpu/isa/choose_isa.h"

namespace sparse_experts::cpu {
namespace {

// Orders of columns in which rows of codes lie, one bit each.
unsigned order_bit(int32_t code) { return static_cast<unsigned>(columns_of_word(code)); }

// The orders that matrices of a table need of rows in the layer's own order, or `is_permuted` ones of
// rows in theirs.
unsigned orders_of(const IsaKernels& kernels, const SeMatrixTable& table, bool permuted) {
  unsigned orders = 0;
  if (table.data == nullptr || table.formats == nullptr) return orders;
  for (int64_t i = 0; i < table.num_formats; ++i) {
    const SeMatrixFormat& format = table.formats[i];
    if (is_permuted(format) == permuted && has_coded_product(kernels, format))
      orders |= order_bit(format.code);
  }
  return orders;
}

int64_t count(unsigned orders) { return __builtin_popcount(orders); }

int64_t bytes_for(int64_t num_rows, int64_t cols) {
  return num_rows * ((cols + kSlab - 1) / kSlab) * static_cast<int64_t>(sizeof(CodedSlab));
}

// Rows that two matrices read, or one: in the layer's order once per order of codes, and as often as
// each of them has columns in an order of its own.
int64_t bytes_of(const IsaKernels& kernels, const SeMatrixTable& one, const SeMatrixTable* other,
                 int64_t num_rows, int64_t num_permuted_rows) {
  unsigned orders = orders_of(kernels, one, false);
  int64_t permuted = count(orders_of(kernels, one, true)) > 0 ? 1 : 0;
  if (other != nullptr) {
    orders |= orders_of(kernels, *other, false);
    permuted += count(orders_of(kernels, *other, true)) > 0 ? 1 : 0;
  }
  return count(orders) * bytes_for(num_rows, one.cols) +
         permuted * bytes_for(num_permuted_rows, one.cols);
}

// Rows that are encoded.
struct Coding {
  ActivationRows from;
  int64_t word_columns;
  int64_t k;
  char* to;
  int64_t first;  // of all codings' rows
  int64_t num_rows;
};

void encode_row(const IsaKernels& kernels, const Coding& coding, int64_t row) {
  const RowLayout& layout = coding.from.layout;
  for (int64_t col = 0; col < coding.k; col += kSlab) {
    const float* from = static_cast<const float*>(coding.from.data) + layout.offset(row, col);
    const int64_t slab = col / kSlab * coding.num_rows + row;
    kernels.encode(reinterpret_cast<CodedSlab*>(coding.to) + slab, from,
                   std::min(kSlab, coding.k - col), coding.word_columns);
  }
}

class Codings {
 public:
  Codings(const RunContext& context, char* scratch) : context_(context), scratch_(scratch) {}

  void add(MatmulSegment* segment) {
    const ActivationRows of_up = segment->x;
    const ActivationRows of_gate = segment->gate_x.data != nullptr ? segment->gate_x : of_up;
    segment->x = rows_for(*segment, of_up, segment->up_format);
    if (segment->gate == nullptr) return;
    const ActivationRows gate_x = rows_for(*segment, of_gate, segment->gate_format);
    segment->gate_x = gate_x.data == segment->x.data ? ActivationRows{} : gate_x;
  }

  void run() const {
    if (codings_.empty()) return;
    context_.for_rows(num_rows_, most_columns_, [&](int64_t first, int64_t last) {
      auto coding = std::upper_bound(codings_.begin(), codings_.end(), first,
                                     [](int64_t row, const Coding& c) { return row < c.first; });
      --coding;
      for (int64_t row = first; row < last; ++row) {
        while (row >= coding->first + coding->num_rows) ++coding;
        encode_row(*context_.kernels, *coding, row - coding->first);
      }
    });
  }

 private:
  // Places them; run() fills them.
  ActivationRows rows_for(const MatmulSegment& segment, const ActivationRows& from,
                          const SeMatrixFormat& format) {
    if (!has_coded_product(*context_.kernels, format)) return from;
    const int64_t word_columns = columns_of_word(format.code);
    // Rows that are picked by number are those of all tokens.
    const int64_t num_rows =
        from.rows != nullptr ? from.layout.slab_stride / kSlab : segment.num_rows;
    ActivationRows to = {nullptr, RowLayout::slabs(num_rows), from.rows, true};
    for (auto known = codings_.rbegin(); known != codings_.rend(); ++known) {
      if (known->from.data != from.data || known->num_rows != num_rows ||
          known->word_columns != word_columns)
        continue;
      to.data = known->to;
      return to;
    }
    to.data = scratch_;
    codings_.push_back({from, word_columns, segment.k, scratch_, num_rows_, num_rows});
    scratch_ += bytes_for(num_rows, segment.k);
    num_rows_ += num_rows;
    most_columns_ = std::max(most_columns_, segment.k);
    return to;
  }

  const RunContext& context_;
  char* scratch_;
  std::vector<Coding> codings_;
  int64_t num_rows_ = 0;
  int64_t most_columns_ = 0;
};

}  // namespace

bool has_coded_product(const IsaKernels& kernels, const SeMatrixFormat& format) {
  return !is_float_format(format) && find_matmul(kernels, kCodedRows, format.code) != nullptr;
}

int64_t coded_bytes(const IsaKernels& kernels, const SeMoeLayer& layer, int64_t num_tokens) {
  const int64_t num_slots = num_tokens * layer.routing.top_k;
  const SeExperts& experts = layer.experts;
  // Weighted inputs are rows of their own.
  const int64_t num_inputs = layer.weight_on_input ? num_slots : num_tokens;
  int64_t first = bytes_of(kernels, experts.up, &experts.gate, num_inputs, num_slots);
  int64_t second = bytes_of(kernels, experts.down, nullptr, num_slots, num_slots);
  if (layer.shared.num_experts > 0) {
    first += bytes_of(kernels, layer.shared.up, &layer.shared.gate, num_tokens, num_tokens);
    second += bytes_of(kernels, layer.shared.down, nullptr, num_tokens, num_tokens);
  }
  return std::max(first, second);
}

void code_rows(const RunContext& context, char* scratch) {
  Codings codings(context, scratch);
  for (MatmulSegment& segment : context.device->segments) codings.add(&segment);
  codings.run();
}

}  // namespace sparse_experts::cpu
