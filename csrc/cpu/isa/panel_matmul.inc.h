// The matmul over packed panels (cpu/layouts/float_panels.h), included by each instruction set's file inside its
// unnamed namespace.
//
//   for a piece of K that fits L1:
//     for each panel:
//       for up to kMaxRows rows of x: one accumulator lane per output, along K; then add it to out
//
// An output is the sum of its pieces, each summed along K from zero. Pieces begin at multiples of
// kPiece whatever the shape, so the bits depend on the row, the column and K alone.
//
// Few rows stream the weights from memory: each panel is then read from front to back, one behind
// the other. Several at a time would hide the latency of a multiply-add, but what one row's few
// accumulators wait is less than what memory takes, and prefetchers follow one stream better.
//
// Accumulators are of the vector class V. Traits: Acc, W, X; kVectors (vectors of a panel's row);
// kStep (elements of K per step of the layout), kPhases (multiply-adds per step; a step widens into
// as many vectors), kXBytes, kVectorBytes (of weights, per step); kPiece (elements of K, divides
// kSlab: a panel's 16 KiB at most); kMaxRows; load_w(p, phase), broadcast(p), broadcast_last(p)
// (the first element of a step only), multiply_add(acc, x, w).

// How far ahead of a stream to fetch: the latency of memory times what a core can take.
constexpr int64_t kStreamAhead = 4096;

// Steps of K per turn of the inner loop. Counting and pointers are a third of a single step's
// instructions, and a core that runs a second thread beside this one issues half as many.
constexpr int kUnroll = 4;

// A number that a lambda gets as a type. (No standard header here: see cpu/isa/isa.h.)
template <int kValue>
struct Steps {
  static constexpr int value = kValue;
};

// `length` columns of K for kRows rows of x and a panel: x from x_rows + x_offset, weights from w.
// Meanwhile it fetches what comes later, from `fetch` on, fetch_bytes a step. Streams fetch every
// line of theirs once; else the blocks of a panel share its lines, and a step has little to fetch.
template <class Traits, int kRows, bool kIsStream>
static void panel_block(const char* const* x_rows, int64_t x_offset, const char* w,
                        const char* fetch, int64_t fetch_bytes, int64_t length, bool is_first,
                        float* out, int64_t out_stride) {
  constexpr int kVectors = Traits::kVectors;
  constexpr int64_t kStepBytes = int64_t{kVectors} * Traits::kVectorBytes;
  typename Traits::Acc acc[kRows][kVectors];
  const char* x[kRows];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    x[i] = x_rows[i] + x_offset;
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) acc[i][j] = V::set(0.0f);
  }
  int64_t at = 0;
  const auto multiply = [&](int64_t step, int phase,
                            auto broadcast) __attribute__((always_inline)) {
    const char* w_step = w + step * kStepBytes;
    const int64_t x_at = (at + step * Traits::kStep + phase) * Traits::kXBytes;
    typename Traits::W wide[kVectors];
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j)
      wide[j] = Traits::load_w(w_step + j * Traits::kVectorBytes, phase);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const typename Traits::X one = broadcast(x[i] + x_at);
#pragma GCC unroll 16
      for (int j = 0; j < kVectors; ++j) acc[i][j] = Traits::multiply_add(acc[i][j], one, wide[j]);
    }
  };
  constexpr int64_t kLineBytes = 64;
  // Steps per line that is fetched.
  constexpr int kEvery = kStepBytes >= kLineBytes ? (kIsStream || kStepBytes > kLineBytes ? 1 : 2)
                                                  : kLineBytes / kStepBytes;
  const auto steps = [&](auto count) __attribute__((always_inline)) {
    constexpr int kCount = decltype(count)::value;
#pragma GCC unroll 4
    for (int step = 0; step < kCount; ++step) {
      if (step % kEvery == 0) {
        const int64_t ahead = kIsStream ? step * kStepBytes : step * fetch_bytes;
        constexpr int64_t kAtOnce = kIsStream && kStepBytes > kLineBytes ? kStepBytes : kLineBytes;
#pragma GCC unroll 16
        for (int64_t line = 0; line < kAtOnce; line += kLineBytes)
          __builtin_prefetch(fetch + ahead + line);
      }
#pragma GCC unroll 2
      for (int phase = 0; phase < Traits::kPhases; ++phase)
        multiply(step, phase, Traits::broadcast);
    }
    fetch += kCount * (kIsStream ? kStepBytes : fetch_bytes);
    w += kCount * kStepBytes;
  };
  constexpr int64_t kTurn = int64_t{kUnroll} * Traits::kStep;
  for (; at + kTurn <= length; at += kTurn) steps(Steps<kUnroll>{});
  for (; at + Traits::kStep <= length; at += Traits::kStep) steps(Steps<1>{});
  if (at < length) multiply(0, 0, Traits::broadcast_last);  // half of a pair
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) {
      float* to_out = out + i * out_stride + j * V::kLanes;
      const auto sum = is_first ? acc[i][j] : V::add(V::load(to_out), acc[i][j]);
      V::store(to_out, sum);
    }
  }
}

template <class Traits, int kRows>
static void run_block(int rows, const char* const* x_rows, int64_t x_offset, const char* w,
                      const char* fetch, int64_t fetch_bytes, int64_t length, bool is_first,
                      float* out, int64_t out_stride) {
  if constexpr (kRows > 1) {
    if (rows < kRows) {
      run_block<Traits, kRows - 1>(rows, x_rows, x_offset, w, fetch, fetch_bytes, length, is_first,
                                   out, out_stride);
      return;
    }
  }
  panel_block<Traits, kRows, false>(x_rows, x_offset, w, fetch, fetch_bytes, length, is_first, out,
                                    out_stride);
}

// The pieces of K, as body(offset into x, offset into a panel, number of elements, is first).
template <class Traits, class Body>
static inline void for_pieces(const PanelTile& tile, const Body& body) {
  constexpr int64_t kPieceBytes =
      Traits::kPiece / Traits::kStep * Traits::kVectors * Traits::kVectorBytes;
  int64_t w_offset = 0;
  for (int64_t from = 0; from < tile.k; from += Traits::kPiece) {
    const int64_t x_offset = from / kSlab * tile.x_slab_bytes + from % kSlab * Traits::kXBytes;
    const int64_t left = tile.k - from;
    body(x_offset, w_offset, left < Traits::kPiece ? left : Traits::kPiece, from == 0);
    w_offset += kPieceBytes;
  }
}

// Rows that one block takes, over each panel from front to back.
template <class Traits, int kRows>
static void stream_panels(const PanelTile& tile) {
  constexpr int64_t kWidth = Traits::kVectors * V::kLanes;
  for (int64_t panel = 0; panel < tile.num_panels; ++panel) {
    const char* w = tile.w + panel * tile.panel_bytes;
    for_pieces<Traits>(tile, [&](int64_t x_at, int64_t w_at, int64_t length, bool is_first) {
      panel_block<Traits, kRows, true>(tile.x_rows, x_at, w + w_at, w + w_at + kStreamAhead,
                                       Traits::kVectors * Traits::kVectorBytes, length, is_first,
                                       tile.out + panel * kWidth, tile.out_stride);
    });
  }
}

template <class Traits, int kRows>
static void stream_rows(const PanelTile& tile) {
  if constexpr (kRows > 1) {
    if (tile.m < kRows) {
      stream_rows<Traits, kRows - 1>(tile);
      return;
    }
  }
  stream_panels<Traits, kRows>(tile);
}

template <class Traits>
static void panel_matmul(const PanelTile& tile) {
  constexpr int kMaxRows = Traits::kMaxRows;
  constexpr int64_t kWidth = Traits::kVectors * V::kLanes;
  if (tile.m <= kMaxRows) {
    stream_rows<Traits, kMaxRows>(tile);
    return;
  }
  // Blocks of even height: a last one of one or two rows would wait for its few accumulators. While
  // they pass, they fetch what comes after them, each its part, so that memory has all their time:
  // this piece of the next panel, or the next piece of the first.
  const int64_t num_blocks = (tile.m + kMaxRows - 1) / kMaxRows;
  constexpr int64_t kStepBytes = int64_t{Traits::kVectors} * Traits::kVectorBytes;
  const int64_t fetch_bytes = (kStepBytes + num_blocks - 1) / num_blocks;
  for_pieces<Traits>(tile, [&](int64_t x_at, int64_t w_at, int64_t length, bool is_first) {
    const int64_t num_steps = length / Traits::kStep;
    for (int64_t panel = 0; panel < tile.num_panels; ++panel) {
      const char* w = tile.w + panel * tile.panel_bytes + w_at;
      const char* next = panel + 1 < tile.num_panels ? w + tile.panel_bytes
                                                     : tile.w + w_at + num_steps * kStepBytes;
      int64_t row = 0;
      for (int64_t block = 0; block < num_blocks; ++block) {
        const int64_t end = tile.m * (block + 1) / num_blocks;
        run_block<Traits, kMaxRows>(static_cast<int>(end - row), tile.x_rows + row, x_at, w,
                                    next + block * num_steps * fetch_bytes, fetch_bytes, length,
                                    is_first, tile.out + row * tile.out_stride + panel * kWidth,
                                    tile.out_stride);
        row = end;
      }
    }
  });
}
