// The dot-product matmul over a traits class, included by each instruction set's file inside its
// unnamed namespace.
//
//   for kMaxCols rows of w:
//     for a slab of K that fits L1 for those rows:
//       for kMaxRows rows of x: add to one vector accumulator per output, along K in steps of kStep
//     reduce each accumulator by the fixed tree of Traits::reduce
// The tail of K is one more step on lanes filled up with zeros. Between slabs the accumulators rest
// in a buffer: the sequence of additions is the same as without slabs, so the bits are too. Slabs
// matter because rows are often a multiple of 4 KiB apart: the same columns of a few rows then
// compete for the same few lines of L1.
//
// Traits: Acc, X, W; kStep (elements of K per step), kXBytes, kWBytes; zero(), load_x(p),
// load_w(p), load_x_part(p, n), load_w_part(p, n), multiply_add(acc, x, w), reduce(acc).

// Rows of x that share the w rows in L1; the accumulators of that many rows rest in a buffer on the
// stack.
constexpr int kPanelRows = 32;
constexpr int kSlabBytes = 4096;

template <class Traits, int kRows, int kCols>
static inline void multiply_add_step(const typename Traits::X (&x)[kRows],
                                     const typename Traits::W& w, int col,
                                     typename Traits::Acc (&acc)[kRows][kCols]) {
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) acc[i][col] = Traits::multiply_add(acc[i][col], x[i], w);
}

// Columns [from, to) of K. `to` beyond the last whole step brings the tail. Accumulators begin at
// zero when is_first, else in `rest`; they end reduced in `out` when is_last, else in `rest`.
template <class Traits, int kRows, int kCols, bool kPrefetch = false>
static void matmul_block(const char* const* x_rows, const char* w, int64_t w_stride_bytes,
                         int64_t ahead_bytes, int64_t from, int64_t to, bool is_first, bool is_last,
                         typename Traits::Acc* rest, float* out, int64_t out_stride) {
  typename Traits::Acc acc[kRows][kCols];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kCols; ++j) acc[i][j] = is_first ? Traits::zero() : rest[i * kCols + j];
  }
  const char* x[kRows];
  const char* w_rows[kCols];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) x[i] = x_rows[i];
#pragma GCC unroll 16
  for (int j = 0; j < kCols; ++j) w_rows[j] = w + j * w_stride_bytes;
  int64_t at = from;
  for (; at + Traits::kStep <= to; at += Traits::kStep) {
    typename Traits::X x_step[kRows];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) x_step[i] = Traits::load_x(x[i] + at * Traits::kXBytes);
#pragma GCC unroll 16
    for (int j = 0; j < kCols; ++j) {
      const char* w_at = w_rows[j] + at * Traits::kWBytes;
      if constexpr (kPrefetch) __builtin_prefetch(w_at + ahead_bytes);
      multiply_add_step<Traits, kRows, kCols>(x_step, Traits::load_w(w_at), j, acc);
    }
  }
  if (at < to) {
    const int tail = static_cast<int>(to - at);
    typename Traits::X x_step[kRows];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i)
      x_step[i] = Traits::load_x_part(x[i] + at * Traits::kXBytes, tail);
#pragma GCC unroll 16
    for (int j = 0; j < kCols; ++j)
      multiply_add_step<Traits, kRows, kCols>(
          x_step, Traits::load_w_part(w_rows[j] + at * Traits::kWBytes, tail), j, acc);
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kCols; ++j) {
      if (is_last) {
        out[i * out_stride + j] = Traits::reduce(acc[i][j]);
      } else {
        rest[i * kCols + j] = acc[i][j];
      }
    }
  }
}

// All rows of x (at most kPanelRows) times kCols rows of w.
template <class Traits, int kCols>
static void matmul_panel(const MatmulTile& tile, const char* const* x_rows, int num_rows,
                         int64_t col, float* out) {
  typename Traits::Acc rest[kPanelRows * kCols];
  const char* w = tile.w + col * tile.w_stride_bytes;
  // Few rows pass over w once, in one go.
  const int64_t slab = num_rows <= Traits::kMaxRows ? tile.k + 1 : kSlabBytes / Traits::kXBytes;
  int64_t from = 0;
  do {
    const bool is_last = tile.k - from <= slab;
    const int64_t to = is_last ? tile.k : from + slab;
    // While the first rows of x pass, fetch what comes after this slab: its continuation, or the
    // rows of the next columns.
    const int64_t ahead =
        is_last ? kCols * tile.w_stride_bytes - from * Traits::kWBytes : slab * Traits::kWBytes;
    for (int row = 0; row < num_rows; row += Traits::kMaxRows) {
      const char* const* rows = x_rows + row;
      typename Traits::Acc* acc = rest + row * kCols;
      float* to_out = out + row * tile.out_stride + col;
      const int left = num_rows - row;
      const auto block = [&](auto run) {
        run(rows, w, tile.w_stride_bytes, ahead, from, to, from == 0, is_last, acc, to_out,
            tile.out_stride);
      };
      if (left >= Traits::kMaxRows && row == 0 && num_rows > Traits::kMaxRows) {
        block(matmul_block<Traits, Traits::kMaxRows, kCols, true>);
      } else if (left >= Traits::kMaxRows) {
        block(matmul_block<Traits, Traits::kMaxRows, kCols>);
      } else if (left == 3) {
        if constexpr (Traits::kMaxRows > 3) block(matmul_block<Traits, 3, kCols>);
      } else if (left == 2) {
        if constexpr (Traits::kMaxRows > 2) block(matmul_block<Traits, 2, kCols>);
      } else {
        block(matmul_block<Traits, 1, kCols>);
      }
    }
    from = to;
  } while (from < tile.k);
}

template <class Traits>
static void matmul(const MatmulTile& tile) {
  for (int64_t first = 0; first < tile.m; first += kPanelRows) {
    const int num_rows =
        static_cast<int>(tile.m - first < kPanelRows ? tile.m - first : kPanelRows);
    const char* x_rows[kPanelRows];
    for (int i = 0; i < num_rows; ++i) {
      const int64_t x_row = tile.x_rows != nullptr ? tile.x_rows[first + i] : first + i;
      x_rows[i] = tile.x + x_row * tile.x_stride_bytes;
    }
    float* out = tile.out + first * tile.out_stride;
    int64_t col = 0;
    for (; col + Traits::kMaxCols <= tile.n; col += Traits::kMaxCols)
      matmul_panel<Traits, Traits::kMaxCols>(tile, x_rows, num_rows, col, out);
    for (; col + 2 <= tile.n; col += 2) matmul_panel<Traits, 2>(tile, x_rows, num_rows, col, out);
    for (; col < tile.n; ++col) matmul_panel<Traits, 1>(tile, x_rows, num_rows, col, out);
  }
}
