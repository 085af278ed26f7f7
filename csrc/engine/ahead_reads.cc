#include "engine/ahead_reads.h"

#include <algorithm>
#include <utility>

namespace sparse_experts::engine {

void AheadReads::add(std::vector<AheadRead> reads) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (AheadRead& read : reads) {
    entries_.remove_if([&](const std::shared_ptr<Entry>& entry) {
      return entry->state == State::kArrived && entry->read.block == read.block;
    });
    entries_.push_back(std::make_shared<Entry>());
    entries_.back()->read = std::move(read);
    ++num_waiting_;
  }
}

bool AheadReads::is_idle() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::none_of(entries_.begin(), entries_.end(), [](const auto& entry) {
    return entry->state == State::kWaiting || entry->state == State::kReading;
  });
}

void AheadReads::work(ReadScratch& scratch) noexcept {
  std::shared_ptr<Entry> entry;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const std::shared_ptr<Entry>& one : entries_) {
      if (one->state != State::kWaiting) continue;
      entry = one;
      break;
    }
    if (entry == nullptr) return;
    entry->state = State::kReading;
    --num_waiting_;
  }
  State end = State::kArrived;
  Failure failure;
  try {
    entry->read.read(scratch, [&entry] {
      if (entry->stop.load(std::memory_order_relaxed))
        throw_if_failed(Failure::from(Status::cancelled()));
    });
  } catch (...) {
    end = State::kFailed;
    failure = current_failure();
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    entry->failure = std::move(failure);
    entry->state = end;
  }
  changed_.notify_all();
}

// A piece takes a millisecond or a few.
void AheadReads::await_stopped(std::unique_lock<std::mutex>* lock) {
  changed_.wait(*lock, [this] {
    return std::none_of(entries_.begin(), entries_.end(), [](const auto& entry) {
      return entry->state == State::kReading && entry->stop.load(std::memory_order_relaxed);
    });
  });
}

AheadReads::Settled AheadReads::settle(const CachePool* pool, int32_t layer,
                                       const std::vector<int32_t>& experts) {
  const auto is_needed = [&](const Entry& entry) {
    return is_of(entry, pool, layer) &&
           std::binary_search(experts.begin(), experts.end(), entry.read.expert);
  };
  Settled settled;
  std::unique_lock<std::mutex> lock(mutex_);
  for (auto at = entries_.begin(); at != entries_.end();) {
    Entry& entry = **at;
    if (entry.state == State::kWaiting) {
      settled.dropped.push_back(std::move(entry.read));
      --num_waiting_;
      at = entries_.erase(at);
      continue;
    }
    if (entry.state == State::kReading && !is_needed(entry)) entry.stop = true;
    ++at;
  }
  await_stopped(&lock);
  for (auto at = entries_.begin(); at != entries_.end();) {
    Entry& entry = **at;
    if (entry.state == State::kReading) {
      settled.underway.push_back(entry.read);
      ++at;
      continue;
    }
    const bool has_failed = entry.state == State::kFailed;
    if (!has_failed && !is_of(entry, pool, layer)) {
      ++at;
      continue;
    }
    (has_failed ? settled.dropped : settled.arrived).push_back(std::move(entry.read));
    at = entries_.erase(at);
  }
  return settled;
}

void AheadReads::await(const AheadRead& read) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto at = std::find_if(entries_.begin(), entries_.end(), [&](const auto& entry) {
    return is_of(*entry, read.pool.get(), read.layer) && entry->read.block == read.block;
  });
  if (at == entries_.end()) return;
  const std::shared_ptr<Entry> entry = *at;
  changed_.wait(lock, [&] { return entry->state != State::kReading; });
  entries_.remove(entry);
  throw_if_failed(entry->failure);
}

void AheadReads::leave(const CachePool* pool, int32_t layer) noexcept {
  std::unique_lock<std::mutex> lock(mutex_);
  for (const std::shared_ptr<Entry>& entry : entries_)
    if (is_of(*entry, pool, layer)) entry->stop = true;
  await_stopped(&lock);
  entries_.remove_if([&](const std::shared_ptr<Entry>& entry) {
    if (!is_of(*entry, pool, layer)) return false;
    if (entry->state == State::kWaiting) --num_waiting_;
    return true;
  });
}

}  // namespace sparse_experts::engine
