// Plain arrays and malloc: templates of the standard library may be shared with instrumented code.
#include "race_shadow.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace simt::detail {
namespace {

template <typename T>
T* allocate(size_t count) {
  void* memory = std::calloc(count, sizeof(T));
  if (memory == nullptr) throw std::bad_alloc();
  return static_cast<T*>(memory);  // zeros are the default values
}

}  // namespace

uint32_t ClockPool::add(uint32_t warp) {
  uint32_t more = free_;
  if (more != 0) {
    free_ = at(more)->next;
  } else {
    if (used_ == capacity_) {
      const size_t capacity = capacity_ == 0 ? 256 : capacity_ * 2;
      LaneClocks* entries = allocate<LaneClocks>(capacity);
      if (used_ > 0) std::memcpy(entries, entries_, used_ * sizeof(LaneClocks));
      std::free(entries_);
      entries_ = entries;
      capacity_ = capacity;
    }
    more = static_cast<uint32_t>(++used_);
  }
  std::memset(at(more), 0, sizeof(LaneClocks));
  at(more)->warp = warp;
  return more;
}

uint32_t ClockPool::copy(uint32_t more) {
  if (more == 0) return 0;
  const uint32_t rest = copy(at(more)->next);
  const uint32_t added = add(at(more)->warp);
  *at(added) = *at(more);
  at(added)->next = rest;
  return added;
}

void ClockPool::free(uint32_t more) {
  while (more != 0) {
    const uint32_t next = at(more)->next;
    at(more)->next = free_;
    free_ = more;
    more = next;
  }
}

Chunk* ChunkTable::find_or_add(uintptr_t address) {
  const uintptr_t number = (address >> kChunkShift) + 1;
  if (last_ != nullptr && last_->number == number) return last_;
  if (used_ * 2 >= capacity_) grow();
  size_t slot = (number * 0x9e3779b97f4a7c15u >> 20) & (capacity_ - 1);
  while (chunks_[slot].number != 0 && chunks_[slot].number != number) {
    slot = (slot + 1) & (capacity_ - 1);
  }
  Chunk* chunk = &chunks_[slot];
  if (chunk->number == 0) {
    chunk->number = number;
    chunk->shift = 4;
    chunk->cells = allocate<Cell>(kChunkBytes >> 4);
    cell_bytes_ += (kChunkBytes >> 4) * sizeof(Cell);
    ++used_;
  }
  last_ = chunk;
  return chunk;
}

void ChunkTable::grow() {
  const size_t capacity = capacity_ == 0 ? 1024 : capacity_ * 2;
  Chunk* chunks = allocate<Chunk>(capacity);
  for (size_t i = 0; i < capacity_; ++i) {
    if (chunks_[i].number == 0) continue;
    size_t slot = (chunks_[i].number * 0x9e3779b97f4a7c15u >> 20) & (capacity - 1);
    while (chunks[slot].number != 0) slot = (slot + 1) & (capacity - 1);
    chunks[slot] = chunks_[i];
  }
  std::free(chunks_);
  chunks_ = chunks;
  capacity_ = capacity;
  last_ = nullptr;
}

void ChunkTable::forget() {
  for (size_t i = 0; i < capacity_; ++i) std::free(chunks_[i].cells);
  std::free(chunks_);
  chunks_ = nullptr;
  capacity_ = used_ = cell_bytes_ = 0;
  last_ = nullptr;
}

void ChunkTable::refine(Chunk* chunk, unsigned shift, ClockPool* clocks, uint32_t first_epoch) {
  if (shift >= chunk->shift) return;
  const size_t old_count = kChunkBytes >> chunk->shift;
  const size_t parts = size_t{1} << (chunk->shift - shift);
  Cell* cells = allocate<Cell>(old_count * parts);
  const auto own_clocks = [=](AccessSet* set) {
    set->more = set->epoch < first_epoch ? 0 : clocks->copy(set->more);
  };
  for (size_t i = 0; i < old_count; ++i) {
    for (size_t j = 0; j < parts; ++j) {
      Cell& cell = cells[i * parts + j];
      cell = chunk->cells[i];
      if (j == 0) continue;
      own_clocks(&cell.reads);
      own_clocks(&cell.atomics);
    }
  }
  cell_bytes_ += old_count * (parts - 1) * sizeof(Cell);
  std::free(chunk->cells);
  chunk->cells = cells;
  chunk->shift = shift;
}

}  // namespace simt::detail
