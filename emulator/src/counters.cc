// Sums of what kernels did, in total and per launch.
#include "simt/counters.h"

#include <deque>
#include <mutex>

#include "block.h"

namespace simt {
namespace {

constexpr size_t kMostRecords = 10000;

// Never destroyed: kernels may still end while the process does.
struct Store {
  std::mutex mutex;
  Counters total;
  std::deque<LaunchRecord> records;
};

Store& store() {
  static Store* const kept = new Store;
  return *kept;
}

}  // namespace

Counters& Counters::operator+=(const Counters& other) {
  launches += other.launches;
  blocks += other.blocks;
  block_barriers += other.block_barriers;
  warp_collectives += other.warp_collectives;
  mma += other.mma;
  wgmma += other.wgmma;
  wgmma_products += other.wgmma_products;
  ldmatrix += other.ldmatrix;
  ldmatrix_bank_conflicts += other.ldmatrix_bank_conflicts;
  cp_async += other.cp_async;
  cp_async_bytes += other.cp_async_bytes;
  cp_async_sectors += other.cp_async_sectors;
  cp_async_bank_conflicts += other.cp_async_bank_conflicts;
  stmatrix += other.stmatrix;
  stmatrix_bank_conflicts += other.stmatrix_bank_conflicts;
  bulk_loads += other.bulk_loads;
  bulk_load_bytes += other.bulk_load_bytes;
  bulk_stores += other.bulk_stores;
  bulk_store_bytes += other.bulk_store_bytes;
  mbarrier_waits += other.mbarrier_waits;
  named_barriers += other.named_barriers;
  proxy_fences += other.proxy_fences;
  global_load_bytes += other.global_load_bytes;
  global_load_sectors += other.global_load_sectors;
  global_store_bytes += other.global_store_bytes;
  global_store_sectors += other.global_store_sectors;
  shared_accesses += other.shared_accesses;
  shared_bank_conflicts += other.shared_bank_conflicts;
  shared_store_bank_conflicts += other.shared_store_bank_conflicts;
  return *this;
}

Counters counters() {
  const std::lock_guard<std::mutex> lock(store().mutex);
  return store().total;
}

Counters counters(const std::string& kernel_name_part) {
  const std::lock_guard<std::mutex> lock(store().mutex);
  Counters sum;
  for (const LaunchRecord& record : store().records) {
    if (record.name.find(kernel_name_part) != std::string::npos) sum += record.counters;
  }
  return sum;
}

std::vector<LaunchRecord> launch_records() {
  const std::lock_guard<std::mutex> lock(store().mutex);
  return {store().records.begin(), store().records.end()};
}

void reset_counters() {
  const std::lock_guard<std::mutex> lock(store().mutex);
  store().total = Counters();
  store().records.clear();
}

namespace detail {

void keep_counters(const Block& block) {
  LaunchRecord record;
  record.name = block.launch().name;
  record.grid = block.launch().grid;
  record.block = block.launch().block;
  record.shared_bytes = block.shared_bytes();
  record.counters = block.counters;
  const std::lock_guard<std::mutex> lock(store().mutex);
  store().total += block.counters;
  store().records.push_back(std::move(record));
  if (store().records.size() > kMostRecords) store().records.pop_front();
}

}  // namespace detail
}  // namespace simt
