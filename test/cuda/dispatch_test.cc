// Dispatch against a plain loop: who goes where, in which order, and what every table says.
#include "cuda/ops/dispatch.h"

#include <algorithm>
#include <string>
#include <vector>

#include "cuda/context.h"
#include "cuda/device_tiles.h"
#include "cuda/harness.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("dispatch");

using sparse_experts::cuda::dispatch_scratch_bytes;
using sparse_experts::cuda::DispatchKernelArgs;
using sparse_experts::cuda::launch_dispatch;
using sparse_experts::cuda::token_tiles_at_most;

struct Case {
  int64_t num_experts = 0;
  int64_t top_k = 1;
  std::vector<int32_t> ids;
  std::vector<uint8_t> flags;        // empty: none
  std::vector<const void*> present;  // empty: all
  int32_t tiles[2] = {16, 128};
};

struct Tables {
  std::vector<int32_t> offsets;
  std::vector<int32_t> slots;
  std::vector<int32_t> tiles[2];  // the records' four numbers one after another
};

Tables expected_tables(const Case& c) {
  std::vector<std::vector<int32_t>> lists(static_cast<size_t>(c.num_experts));
  for (size_t slot = 0; slot < c.ids.size(); ++slot) {
    const int32_t id = c.ids[slot];
    if (id < 0 || id >= c.num_experts) continue;
    if (!c.present.empty() && c.present[static_cast<size_t>(id)] == nullptr) continue;
    if (!c.flags.empty() && c.flags[slot / static_cast<size_t>(c.top_k)] != 0) continue;
    lists[static_cast<size_t>(id)].push_back(static_cast<int32_t>(slot));
  }
  Tables out;
  out.offsets.push_back(0);
  for (const auto& list : lists) {
    out.slots.insert(out.slots.end(), list.begin(), list.end());
    out.offsets.push_back(static_cast<int32_t>(out.slots.size()));
  }
  out.slots.resize(c.ids.size(), -1);
  for (int kind = 0; kind < 2; ++kind) {
    if (c.tiles[kind] == 0) continue;
    for (const TileRecord& record : tile_records(out.offsets, c.tiles[kind]))
      for (const int32_t number :
           {record.expert, record.first_tile, record.first_entry, record.num_entries})
        out.tiles[kind].push_back(number);
  }
  return out;
}

// What does not need the expected tables: a permutation, rising order, offsets that agree with ids.
bool invariants_hold(const Case& c, const Tables& t) {
  std::vector<uint8_t> seen(c.ids.size(), 0);
  if (t.offsets.front() != 0) return false;
  for (int64_t e = 0; e < c.num_experts; ++e) {
    const int32_t begin = t.offsets[static_cast<size_t>(e)];
    const int32_t end = t.offsets[static_cast<size_t>(e) + 1];
    if (begin > end || end > static_cast<int32_t>(c.ids.size())) return false;
    for (int32_t i = begin; i < end; ++i) {
      const int32_t slot = t.slots[static_cast<size_t>(i)];
      if (slot < 0 || slot >= static_cast<int32_t>(c.ids.size())) return false;
      if (c.ids[static_cast<size_t>(slot)] != e || seen[static_cast<size_t>(slot)]++ != 0)
        return false;
      if (i > begin && t.slots[static_cast<size_t>(i) - 1] >= slot) return false;
    }
  }
  for (size_t i = static_cast<size_t>(t.offsets.back()); i < c.ids.size(); ++i) {
    if (t.slots[i] != -1) return false;
  }
  return true;
}

bool run_case(const Case& c, const std::string& what, Tables* out) {
  constexpr int64_t kGuard = 64;  // behind every output: stays poisoned
  const int64_t num_slots = static_cast<int64_t>(c.ids.size());
  const DeviceArray<int32_t> ids(c.ids);
  const DeviceArray<uint8_t> flags(c.flags);
  const DeviceArray<const void*> present(c.present);
  const DeviceArray<int32_t> offsets(c.num_experts + 1 + kGuard);
  const DeviceArray<int32_t> slots(num_slots + kGuard);
  const auto most_tiles = [&](int kind) {
    return token_tiles_at_most(num_slots, c.num_experts, c.tiles[kind]);
  };
  const DeviceArray<int32_t> tiles0(4 * most_tiles(0) + kGuard);
  const DeviceArray<int32_t> tiles1(4 * most_tiles(1) + kGuard);
  const DeviceArray<int32_t> num_tiles(2 + kGuard);
  const int64_t scratch_bytes =
      static_cast<int64_t>(dispatch_scratch_bytes(num_slots, c.num_experts));
  const DeviceArray<uint8_t> scratch(scratch_bytes + kGuard);
  DispatchKernelArgs args = {};
  args.topk_ids = ids;
  args.non_finite = c.flags.empty() ? nullptr : flags.data();
  args.present = c.present.empty() ? nullptr : present.data();
  args.num_slots = num_slots;
  args.top_k = c.top_k;
  args.num_experts = c.num_experts;
  args.expert_offsets = offsets;
  args.sorted_slots = slots;
  args.tile_tokens[0] = c.tiles[0];
  args.tile_tokens[1] = c.tiles[1];
  const auto records = [&](const DeviceArray<int32_t>& array, int kind) {
    return c.tiles[kind] != 0 ? reinterpret_cast<TileRecord*>(array.data()) : nullptr;
  };
  args.tiles[0] = records(tiles0, 0);
  args.tiles[1] = records(tiles1, 1);
  args.num_tiles = num_tiles;
  args.scratch = scratch;
  if (!synced(launch_dispatch(args, nullptr), what)) return false;

  const auto take = [&](const DeviceArray<int32_t>& array, int64_t count, const char* name) {
    std::vector<int32_t> values = array.download();
    check_poison(values, static_cast<size_t>(count), kGuard, what + ": behind " + name);
    values.resize(static_cast<size_t>(count));
    return values;
  };
  out->offsets = take(offsets, c.num_experts + 1, "expert_offsets");
  out->slots = take(slots, num_slots, "sorted_slots");
  // A kind without a table leaves its count alone; records behind the last one stay poisoned.
  const std::vector<int32_t> counts = take(num_tiles, 2, "num_tiles");
  for (int kind = 0; kind < 2; ++kind) {
    const int32_t count = counts[static_cast<size_t>(kind)];
    const int64_t most = c.tiles[kind] != 0 ? most_tiles(kind) : -1;
    CHECK_MESSAGE((count <= most && count >= (most < 0 ? -1 : 0)), what, ": num_tiles ", count);
    if (count > most) return false;
    out->tiles[kind] =
        take(kind == 0 ? tiles0 : tiles1, 4 * std::max<int64_t>(0, count), "tile records");
  }
  check_poison(scratch.download(), static_cast<size_t>(scratch_bytes), kGuard,
               what + ": behind scratch");
  return true;
}

void check_case(const Case& c, const std::string& what) {
  Tables out;
  if (!run_case(c, what, &out)) return;
  const Tables expected = expected_tables(c);
  check_equal(out.offsets, expected.offsets, what + ": expert_offsets");
  check_equal(out.slots, expected.slots, what + ": sorted_slots");
  CHECK_MESSAGE(invariants_hold(c, out), what, ": invariants");
  for (int kind = 0; kind < 2; ++kind)
    check_equal(out.tiles[kind], expected.tiles[kind],
                what + ": tiles of " + std::to_string(c.tiles[kind]));
}

enum class Load { kUniform, kZipf, kOne, kDistinct, kHalfEmpty, kLast };
constexpr Load kLoads[] = {Load::kUniform,  Load::kZipf,      Load::kOne,
                           Load::kDistinct, Load::kHalfEmpty, Load::kLast};
constexpr const char* kLoadNames[] = {"uniform",        "Zipf",       "all on one",
                                      "one token each", "half empty", "last expert"};

std::vector<int32_t> make_ids(Random& random, Load load, int64_t num_experts, int64_t num_slots) {
  std::vector<double> cumulative;
  double sum = 0;
  for (int64_t e = 0; e < num_experts; ++e)
    cumulative.push_back(sum += 1.0 / static_cast<double>(e + 1));
  std::vector<int32_t> ids(static_cast<size_t>(num_slots));
  const int64_t one = random.below(num_experts);
  for (int64_t i = 0; i < num_slots; ++i) {
    int64_t id = 0;
    switch (load) {
      case Load::kUniform:
        id = random.below(num_experts);
        break;
      case Load::kZipf:
        id = std::lower_bound(cumulative.begin(), cumulative.end(), random.uniform() * sum) -
             cumulative.begin();
        break;
      case Load::kOne:
        id = one;
        break;
      case Load::kDistinct:
        id = (one + 7 * i) % num_experts;
        break;
      case Load::kHalfEmpty:
        id = random.below((num_experts + 1) / 2) * 2;
        break;
      case Load::kLast:
        id = num_experts - 1;
        break;
    }
    ids[static_cast<size_t>(i)] = static_cast<int32_t>(std::min(id, num_experts - 1));
  }
  return ids;
}

std::string name_of(int64_t num_experts, int64_t num_slots, const std::string& more) {
  return "dispatch E " + std::to_string(num_experts) + " slots " + std::to_string(num_slots) + " " +
         more;
}

TEST_CASE("expert counts") {
  Random random(20261124);
  int turn = 0;
  for (const int64_t num_experts :
       {1,   2,   3,   31,  60,  63,   65,   127,  160,  192,  255,  257,
        288, 384, 512, 576, 896, 1023, 1024, 1025, 4096, 6145, 8191, 12300}) {
    for (const int64_t num_slots : {int64_t{8}, int64_t{700}, int64_t{5000}}) {
      const size_t load = static_cast<size_t>(turn++ % 6);
      Case c;
      c.num_experts = num_experts;
      c.ids = make_ids(random, kLoads[load], num_experts, num_slots);
      check_case(c, name_of(num_experts, num_slots, kLoadNames[load]));
    }
  }
}

TEST_CASE("loads") {
  Random random(20261124);
  for (size_t load = 0; load < 6; ++load) {
    for (const int64_t num_experts : {8, 128, 300}) {
      for (const int64_t num_slots : {64, 4096, 6000}) {
        Case c;
        c.num_experts = num_experts;
        c.ids = make_ids(random, kLoads[load], num_experts, num_slots);
        check_case(c, name_of(num_experts, num_slots, kLoadNames[load]));
      }
    }
  }
}

// Around a warp's round, the single block's limit, and the chunks of the large form.
TEST_CASE("sizes") {
  Random random(20261124);
  for (const int64_t num_slots :
       {0,    1,     2,     7,     31,     32,     33,     127,   128,  129,
        255,  256,   257,   1023,  1025,   4095,   4096,   4097,  4223, 4224,
        4225, 16383, 16384, 16385, 131071, 131072, 131073, 131200}) {
    if (num_slots < 0) continue;
    Case c;
    c.num_experts = num_slots % 2 == 0 ? 60 : 17;
    c.ids = make_ids(random, Load::kZipf, c.num_experts, num_slots);
    check_case(c, name_of(c.num_experts, num_slots, "sizes"));
  }
}

// Ids that lead nowhere, experts that are not here, rows that are flagged; tables left out.
TEST_CASE("left out") {
  Random random(20261124);
  static const int here = 0;
  for (const int64_t num_tokens : {1, 5, 100, 900}) {
    for (const int64_t top_k : {1, 6, 8}) {
      for (const int64_t num_experts : {2, 60, 257}) {
        Case c;
        c.num_experts = num_experts;
        c.top_k = top_k;
        c.ids = make_ids(random, Load::kUniform, num_experts, num_tokens * top_k);
        for (int32_t& id : c.ids) {
          const int64_t kind = random.below(8);
          if (kind == 0) id = -1;
          if (kind == 1) id = static_cast<int32_t>(num_experts + random.below(100));
          if (kind == 2) id = static_cast<int32_t>(random.below(2) != 0 ? INT32_MAX : INT32_MIN);
        }
        for (int64_t t = 0; t < num_tokens; ++t)
          c.flags.push_back(random.below(3) == 0 ? static_cast<uint8_t>(1 + random.below(255)) : 0);
        for (int64_t e = 0; e < num_experts; ++e)
          c.present.push_back(random.below(3) == 0 ? nullptr : &here);
        c.tiles[0] = random.below(2) != 0 ? 16 : 0;
        c.tiles[1] = random.below(2) != 0 ? 1 : 0;
        check_case(c, name_of(num_experts, num_tokens * top_k,
                              "left out, top_k " + std::to_string(top_k)));
      }
    }
  }
  for (const int64_t num_slots : {int64_t{40}, int64_t{5000}}) {
    Case c;
    c.num_experts = 7;
    c.ids.assign(static_cast<size_t>(num_slots), -1);
    check_case(c, name_of(7, num_slots, "nobody goes anywhere"));
    c.ids = make_ids(random, Load::kUniform, 7, num_slots);
    c.present.assign(7, nullptr);
    check_case(c, name_of(7, num_slots, "no expert is here"));
  }
}

TEST_CASE("reruns") {
  Random random(20261124);
  for (const int64_t num_slots : {int64_t{3000}, int64_t{9000}}) {
    Case c;
    c.num_experts = 64;
    c.ids = make_ids(random, Load::kZipf, c.num_experts, num_slots);
    Tables first;
    if (!run_case(c, name_of(64, num_slots, "first run"), &first)) continue;
    for (int i = 0; i < 5; ++i) {
      Tables again;
      if (!run_case(c, name_of(64, num_slots, "rerun"), &again)) break;
      check_same_bits(first.slots, again.slots, name_of(64, num_slots, "rerun: same bits"));
      check_same_bits(first.offsets, again.offsets, name_of(64, num_slots, "rerun: same bits"));
    }
  }
}

TEST_CASE("refusals") {
  uint64_t last = 0;
  for (int64_t num_slots = 0; num_slots < 400000; num_slots += 997) {
    const uint64_t bytes = dispatch_scratch_bytes(num_slots, 128);
    if (bytes < last) CHECK_MESSAGE(false, "dispatch: scratch falls at ", num_slots);
    last = bytes;
  }
  CHECK_MESSAGE(last > 0, "dispatch: scratch never falls");
  DispatchKernelArgs args = {};
  args.num_slots = int64_t{1} << 31;
  args.top_k = 1;
  args.num_experts = 4;
  CHECK_MESSAGE(launch_dispatch(args, nullptr) == cudaErrorInvalidValue,
                "dispatch: 2^31 slots refused");
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
