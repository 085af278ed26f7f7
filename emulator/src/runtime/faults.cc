// Planned failures, counters, and both for a process without our headers.
#include "simt/faults.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "runtime/state.h"
#include "simt/counters.h"

namespace simt {

namespace runtime {

namespace {

// False: not a plan.
bool parse_plan(const std::string& plan, std::vector<Fault>* faults) {
  static const char* const kKinds[] = {"malloc", "host",   "copy",  "launch",
                                       "graph",  "stream", "event", "sticky"};
  size_t begin = 0;
  while (begin < plan.size()) {
    const size_t end = std::min(plan.find(',', begin), plan.size());
    const std::string entry = plan.substr(begin, end - begin);
    begin = end + 1;
    const size_t colon = entry.find(':');
    if (colon == std::string::npos) return false;
    Fault fault;
    fault.kind = entry.substr(0, colon);
    if (std::none_of(std::begin(kKinds), std::end(kKinds),
                     [&](const char* kind) { return fault.kind == kind; })) {
      return false;
    }
    const std::string count = entry.substr(colon + 1);
    if (count.empty() || count.size() > 18 ||
        count.find_first_not_of("0123456789") != std::string::npos) {
      return false;
    }
    fault.countdown = std::strtoll(count.c_str(), nullptr, 10);
    if (fault.countdown < 1) return false;
    faults->push_back(std::move(fault));
  }
  return true;
}

void read_plan_of_environment(Runtime& state) {
  if (!state.faults_from_environment) return;
  state.faults_from_environment = false;
  const char* plan = std::getenv("SIMT_FAIL");
  if (plan == nullptr) return;
  std::vector<Fault> faults;
  if (parse_plan(plan, &faults)) {
    state.faults = std::move(faults);
  } else {
    std::fprintf(stderr, "simt: SIMT_FAIL is no plan of failures: %s\n", plan);
  }
}

}  // namespace

bool fault_due(Runtime& state, const char* kind) {
  read_plan_of_environment(state);
  bool due = false;
  for (Fault& fault : state.faults) {
    if (fault.countdown > 0 && fault.kind == kind && --fault.countdown == 0) due = true;
  }
  return due;
}

}  // namespace runtime

bool set_faults(const std::string& plan) {
  std::vector<runtime::Fault> faults;
  if (!runtime::parse_plan(plan, &faults)) return false;
  runtime::Runtime& state = runtime::runtime();
  const runtime::Lock lock(state.mutex);
  state.faults_from_environment = false;
  state.faults = std::move(faults);
  return true;
}

void clear_faults() { set_faults(""); }

int64_t pending_faults() {
  runtime::Runtime& state = runtime::runtime();
  const runtime::Lock lock(state.mutex);
  runtime::read_plan_of_environment(state);
  return std::count_if(state.faults.begin(), state.faults.end(),
                       [](const runtime::Fault& fault) { return fault.countdown > 0; });
}

RuntimeCounters runtime_counters() {
  runtime::Runtime& state = runtime::runtime();
  const runtime::Lock lock(state.mutex);
  return state.counters;
}

namespace {

std::string counters_json() {
  const RuntimeCounters host = runtime_counters();
  const Counters kernels = counters();
  const std::pair<const char*, uint64_t> fields[] = {
      {"allocations", host.allocations},
      {"hostAllocations", host.host_allocations},
      {"liveAllocations", host.live_allocations},
      {"liveDeviceBytes", host.live_device_bytes},
      {"liveHostBytes", host.live_host_bytes},
      {"copies", host.copies},
      {"copiedBytes", host.copied_bytes},
      {"launches", host.launches},
      {"kernelsRun", host.kernels_run},
      {"graphLaunches", host.graph_launches},
      {"graphsInstantiated", host.graphs_instantiated},
      {"synchronisations", host.synchronisations},
      {"liveStreams", host.live_streams},
      {"liveEvents", host.live_events},
      {"liveGraphs", host.live_graphs},
      {"defects", host.defects},
      {"pendingFaults", static_cast<uint64_t>(pending_faults())},
      {"blocks", kernels.blocks},
      {"blockBarriers", kernels.block_barriers},
      {"warpCollectives", kernels.warp_collectives},
      {"mma", kernels.mma},
      {"ldmatrix", kernels.ldmatrix},
      {"ldmatrixBankConflicts", kernels.ldmatrix_bank_conflicts},
      {"cpAsync", kernels.cp_async},
      {"cpAsyncBytes", kernels.cp_async_bytes},
      {"cpAsyncSectors", kernels.cp_async_sectors},
      {"cpAsyncBankConflicts", kernels.cp_async_bank_conflicts},
      {"globalLoadBytes", kernels.global_load_bytes},
      {"globalLoadSectors", kernels.global_load_sectors},
      {"globalStoreBytes", kernels.global_store_bytes},
      {"globalStoreSectors", kernels.global_store_sectors},
      {"sharedAccesses", kernels.shared_accesses},
      {"sharedBankConflicts", kernels.shared_bank_conflicts},
  };
  std::string text = "{";
  for (const auto& [name, value] : fields) {
    if (text.size() > 1) text += ",";
    text += "\"" + std::string(name) + "\":" + std::to_string(value);
  }
  return text + "}";
}

}  // namespace
}  // namespace simt

extern "C" {

int32_t simt_set_faults(const char* plan) {
  return simt::set_faults(plan == nullptr ? "" : plan) ? 1 : 0;
}

void simt_revive_devices(void) { simt::revive_devices(); }

uint64_t simt_counters_json(char* text, uint64_t size) {
  const std::string json = simt::counters_json();
  if (text != nullptr && size > 0) {
    const uint64_t length = std::min<uint64_t>(size - 1, json.size());
    std::memcpy(text, json.data(), length);
    text[length] = '\0';
  }
  return json.size();
}

int64_t simt_allocation_count(void) {
  return static_cast<int64_t>(simt::runtime_counters().live_allocations);
}

}  // extern "C"
