// Bulk copies (cp.async.bulk): boxes of tensors and successive bytes, by hardware of their own. Loads
// are counted by an mbarrier (mbarrier.cc) and land when a thread waits for that. Stores read their
// source in the wait that covers their group: whoever overwrites it before is found.
#include <cstring>

#include "mbarrier.h"
#include "simt/ptx90.h"

namespace simt::detail {
namespace {

constexpr uint32_t kUnit = 16;
constexpr uint32_t kMostBytes = 1 << 20;

[[noreturn]] void misaligned(Thread* thread, const char* operation, const char* what, uint32_t unit,
                             Site site) {
  thread->block->fail(
      thread, DefectKind::kMisaligned,
      std::string(operation) + ": " + what + " is not a multiple of " + std::to_string(unit), site);
}

// `unit` of the address, which may be less than the bytes.
uint32_t checked_range(Thread* thread, uint32_t address, uint32_t bytes, uint32_t unit,
                       const char* operation, Site site) {
  Block* block = thread->block;
  if (address % unit != 0) misaligned(thread, operation, "the shared address", unit, site);
  const uint32_t offset = block->checked_offset(thread, address, kUnit, operation, site);
  if (!block->is_allocated(offset, bytes)) {
    block->fail(thread, DefectKind::kOutOfBounds,
                std::string(operation) + ": " + std::to_string(bytes) + " bytes from " +
                    block->describe_offset(offset) + " on do not fit into the shared memory there",
                site);
  }
  return offset;
}

void check_bytes(Thread* thread, const void* global, uint32_t bytes, const char* operation,
                 Site site) {
  if (reinterpret_cast<uintptr_t>(global) % kUnit != 0) {
    misaligned(thread, operation, "the global address", kUnit, site);
  }
  if (bytes % kUnit != 0 || bytes == 0 || bytes >= kMostBytes) {
    misaligned(thread, operation, "the number of bytes", kUnit, site);
  }
}

// Where 16-byte chunk `chunk` of the box's row `row` lies. A swizzled row of w bytes is permuted by
// the number of its 128-byte line of shared memory; the pattern repeats after as many lines as a row
// has chunks.
uint32_t place_of_chunk(uint32_t offset, uint32_t row_bytes, uint32_t swizzle_bytes, uint32_t row,
                        uint32_t chunk) {
  if (swizzle_bytes == 0) return offset + row * row_bytes + chunk * kUnit;
  const uint32_t chunks = swizzle_bytes / kUnit;
  const uint32_t line = (offset + row * swizzle_bytes) / 128 % 8;
  const uint32_t permuted = chunk ^ line % chunks;
  return offset + row * swizzle_bytes + permuted * kUnit;
}

// The bytes of the tensor at the start of the box's row; 0: the row lies outside.
uint64_t source_of_row(const BulkLoad& load, uint32_t row) {
  const TensorMap& map = load.map;
  uint64_t address = map.address;
  for (uint32_t i = 1; i < map.rank; ++i) {
    const int64_t at = load.coordinates[i] + static_cast<int64_t>(row % map.box[i]);
    row /= map.box[i];
    if (at < 0 || static_cast<uint64_t>(at) >= map.dimensions[i]) return 0;
    address += static_cast<uint64_t>(at) * map.strides[i];
  }
  return address;
}

void land_box(Thread* waiter, const BulkLoad& load) {
  const TensorMap& map = load.map;
  const uint32_t row_bytes = map.row_bytes();
  const uint64_t element = map.strides[0];
  unsigned char bytes[256 * 8];
  for (uint32_t row = 0; row < map.rows(); ++row) {
    std::memset(bytes, 0, row_bytes);
    const uint64_t source = source_of_row(load, row);
    // The part of the row that lies in the tensor, in elements of the box.
    const int64_t start = load.coordinates[0];
    const int64_t first = start < 0 ? -start : 0;
    int64_t end = static_cast<int64_t>(map.dimensions[0]) - start;
    if (end > static_cast<int64_t>(map.box[0])) end = static_cast<int64_t>(map.box[0]);
    if (source != 0 && first < end) {
      const auto* from = reinterpret_cast<const unsigned char*>(
          source + static_cast<uint64_t>((start + first) * static_cast<int64_t>(element)));
      const size_t count = static_cast<size_t>(end - first) * element;
      race_global_read(load.thread, from, static_cast<uint32_t>(count), load.site);
      std::memcpy(bytes + static_cast<size_t>(first) * element, from, count);
    }
    for (uint32_t chunk = 0; chunk * kUnit < row_bytes; ++chunk) {
      const uint32_t to = place_of_chunk(load.offset, row_bytes, map.swizzle_bytes, row, chunk);
      std::memcpy(waiter->block->arena() + to, bytes + chunk * kUnit, kUnit);
    }
  }
}

}  // namespace

void land(Thread* waiter, const BulkLoad& load, AsyncActor actor) {
  race_async_landed(waiter, actor, load.offset, load.bytes, load.site);
  if (load.source == nullptr) return land_box(waiter, load);
  race_global_read(load.thread, load.source, load.bytes, load.site);
  std::memcpy(waiter->block->arena() + load.offset, load.source, load.bytes);
}

void bulk_load_box(uint32_t shared, const void* map, uint32_t barrier, const int32_t* coordinates,
                   uint32_t rank, const char* file, int line) {
  constexpr const char* kName = "cp.async.bulk.tensor";
  Thread* thread = self();
  EngineScope scope(thread);
  Block* block = thread->block;
  BulkLoad load;
  load.thread = thread;
  load.site = {file, line};
  if (reinterpret_cast<uintptr_t>(map) % 64 != 0) {
    misaligned(thread, kName, "the tensor map's address", 64, load.site);
  }
  if (!decode_tensor_map(map, &load.map)) {
    block->fail(thread, DefectKind::kProtocol, std::string(kName) + ": no tensor map lies there",
                load.site);
  }
  if (load.map.rank != rank) {
    block->fail(thread, DefectKind::kProtocol,
                std::string(kName) + ": " + std::to_string(rank) +
                    " coordinates for a tensor of rank " + std::to_string(load.map.rank),
                load.site);
  }
  std::memcpy(load.coordinates, coordinates, rank * sizeof(int32_t));
  // A row of the box takes the swizzle's width in shared memory; one that is less is left out here.
  const uint32_t row_bytes = load.map.row_bytes();
  if (load.map.swizzle_bytes != 0 && row_bytes != load.map.swizzle_bytes) {
    block->fail(thread, DefectKind::kProtocol,
                std::string(kName) + ": rows of " + std::to_string(row_bytes) +
                    " bytes in a swizzle of " + std::to_string(load.map.swizzle_bytes),
                load.site);
  }
  load.bytes = row_bytes * load.map.rows();
  // The pattern begins at multiples of 8 lines of its width.
  const uint32_t unit = load.map.swizzle_bytes == 0 ? 128 : load.map.swizzle_bytes * 8;
  load.offset = checked_range(thread, shared, load.bytes, unit, kName, load.site);
  block->mbarriers->issue(barrier, load, kName);
}

void bulk_load(uint32_t shared, const void* source, uint32_t bytes, uint32_t barrier,
               const char* file, int line) {
  constexpr const char* kName = "cp.async.bulk";
  Thread* thread = self();
  EngineScope scope(thread);
  BulkLoad load;
  load.thread = thread;
  load.site = {file, line};
  check_bytes(thread, source, bytes, kName, load.site);
  load.source = source;
  load.bytes = bytes;
  load.offset = checked_range(thread, shared, bytes, kUnit, kName, load.site);
  thread->block->mbarriers->issue(barrier, load, kName);
}

void bulk_store(void* target, uint32_t shared, uint32_t bytes, const char* file, int line) {
  constexpr const char* kName = "cp.async.bulk to global memory";
  Thread* thread = self();
  EngineScope scope(thread);
  Block* block = thread->block;
  const Site site = {file, line};
  check_bytes(thread, target, bytes, kName, site);
  const uint32_t offset = checked_range(thread, shared, bytes, kUnit, kName, site);
  block->mbarriers->check_not_in_flight(thread, offset, bytes, kName, site);
  race_bulk_read(thread, offset, bytes, site);
  const unsigned char* from = block->arena() + offset;
  thread->stores.push_back({offset, thread->committed_stores, target, {from, from + bytes}, site});
  ++block->counters.bulk_stores;
  block->counters.bulk_store_bytes += bytes;
}

void bulk_commit() { ++self()->committed_stores; }

void bulk_wait(uint32_t pending) {
  Thread* thread = self();
  EngineScope scope(thread);
  Block* block = thread->block;
  block->check_time(thread);
  std::vector<BulkStore>& stores = thread->stores;
  size_t landed = 0;
  while (landed < stores.size() && stores[landed].group + pending < thread->committed_stores) {
    const BulkStore& store = stores[landed];
    const size_t bytes = store.bytes.size();
    if (std::memcmp(block->arena() + store.offset, store.bytes.data(), bytes) != 0) {
      const Site site = store.site;
      block->fail(thread, DefectKind::kInFlight,
                  "shared memory, " + block->describe_offset(store.offset) +
                      ", was overwritten before the bulk copy of " + to_string(site) +
                      " had read it: its wait comes first",
                  site);
    }
    race_global_write(thread, store.target, static_cast<uint32_t>(bytes), store.site);
    std::memcpy(store.target, store.bytes.data(), bytes);
    ++landed;
  }
  stores.erase(stores.begin(), stores.begin() + static_cast<std::ptrdiff_t>(landed));
}

void bulk_prefetch(const void* source, uint32_t bytes, const char* file, int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  check_bytes(thread, source, bytes, "cp.async.bulk.prefetch", {file, line});
}

}  // namespace simt::detail
