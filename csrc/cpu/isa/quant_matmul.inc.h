// The matmul of f32 activations by quantised panels, included by each instruction set's file inside
// its unnamed namespace.
//
//   for a piece of K that fits L1 as f32:
//     for each panel:
//       decode the piece, then multiply as panel_matmul.inc.h does with f32 panels
//
// One and two rows are multiplied as codes are decoded (quant_stream.inc.h), without the way through
// memory.
//
// The same multiply-adds in the same order as with the weights stored in f32, so the same bits.

#include "cpu/isa/quant_scales.inc.h"

// Behind the scales, which it names.
#include "cpu/isa/quant_decode.inc.h"

using DecodeFunction = void (*)(const QuantPanel& quant, const char* panel, int64_t from,
                                int64_t length, float* out);

static void quant_panels(const PanelTile& tile, DecodeFunction decode) {
  using Traits = PanelTraits<SE_F32>;
  constexpr int kMaxRows = Traits::kMaxRows;
  const QuantPanel& quant = *tile.quant;
  alignas(64) float piece[Traits::kPiece * kWidth];
  const char* weights = reinterpret_cast<const char*>(piece);
  // Blocks of even height. While they pass, they fetch the codes that are decoded next, each its
  // part.
  const int64_t num_blocks = (tile.m + kMaxRows - 1) / kMaxRows;
  const int64_t code_bytes = (quant.chunk_bytes + kChunk - 1) / kChunk;  // of a column
  const int64_t fetch_bytes = (code_bytes + num_blocks - 1) / num_blocks;
  for_pieces<Traits>(tile, [&](int64_t x_at, int64_t w_at, int64_t length, bool is_first) {
    const int64_t from = w_at / (kWidth * Traits::kXBytes);
    for (int64_t panel = 0; panel < tile.num_panels; ++panel) {
      const char* w = tile.w + panel * tile.panel_bytes;
      decode(quant, w, from, length, piece);
      const bool is_last = panel + 1 == tile.num_panels;
      const char* next = (is_last ? tile.w : w + tile.panel_bytes) + quant.header_bytes +
                         (from + (is_last ? length : 0)) * code_bytes;
      int64_t row = 0;
      for (int64_t block = 0; block < num_blocks; ++block) {
        const int64_t end = tile.m * (block + 1) / num_blocks;
        run_block<Traits, kMaxRows>(static_cast<int>(end - row), tile.x_rows + row, x_at, weights,
                                    next + block * length * fetch_bytes, fetch_bytes, length,
                                    is_first, tile.out + row * tile.out_stride + panel * kWidth,
                                    tile.out_stride);
        row = end;
      }
    }
  });
}

#include "cpu/isa/quant_stream.inc.h"

template <int kCode, bool kIsTable, Shift kShift>
static void quant_product(const PanelTile& tile) {
  // What rounds a fused multiply-add twice has its vectors emulated, and too few registers.
  if constexpr (V::kHasFusedFma) {
    if (tile.m == 1) {
      stream_codes<kCode, kIsTable, kShift, 1>(tile);
      return;
    }
    if (tile.m == 2) {
      stream_codes<kCode, kIsTable, kShift, 2>(tile);
      return;
    }
  }
  quant_panels(tile, decode_piece<kCode, kIsTable, kShift>);
}

template <int kCode, bool kIsTable>
static void quant_product_of(const PanelTile& tile) {
  if (tile.quant->offset == SE_OFFSET_NONE) {
    quant_product<kCode, kIsTable, Shift::kNone>(tile);
  } else if (tile.quant->offset == SE_OFFSET_ZERO) {
    quant_product<kCode, kIsTable, Shift::kZero>(tile);
  } else {
    quant_product<kCode, kIsTable, Shift::kAdd>(tile);
  }
}

template <int kCode>
static void quant_matmul(const PanelTile& tile) {
  if constexpr (kCode == SE_CODE_U4) {
    if (!tile.quant->is_affine) {
      quant_product_of<kCode, true>(tile);
      return;
    }
  }
  quant_product_of<kCode, false>(tile);
}
