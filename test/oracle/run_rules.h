// What a run in steps refuses, and what it needs to go on: the same of every backend. `OneToken` of a backend's tests is a layer of
// `options_of_eight()` whose experts come and go, in the middle of a run of one token:
//
//   RunInSteps                 its base
//   layer.place, clear, set    what is there of the experts
//   resident()                 the same layer, opened with all of them
//   own.args, own.result       the call
//   needed                     the two experts that the token needs
//   read_rows, write_rows      copies of rows to and from the host
//   check_result(what)         the result is that of the resident layer
#pragma once

#include <climits>
#include <cstdint>
#include <vector>

#include "cpp/check.h"
#include "oracle/fixture.h"
#include "oracle/run_in_steps.h"

namespace native_test {

inline LayerOptions options_of_eight() {
  LayerOptions options;
  options.shared = 24;
  return options;
}

template <typename OneToken>
void check_wave_says_what_it_needs() {
  const OneToken one;
  for (int32_t e = 0; e < 8; ++e) {
    const bool is_needed = e == one.needed[0] || e == one.needed[1];
    CHECK((one.wave.expert_offsets[e + 1] > one.wave.expert_offsets[e]) == is_needed);
  }
}

// An expert that is needed and absent is an error, never a smaller sum.
template <typename OneToken>
void check_absent_expert_is_error() {
  OneToken one;
  CHECK(one.finish() == SE_INTERNAL);
  CHECK(one.compute(one.needed) == SE_INTERNAL);
  CHECK(one.layer.place({one.needed[0]}) == SE_OK);
  CHECK(one.compute(one.needed) == SE_INTERNAL);
  CHECK(one.compute_rest() == SE_INTERNAL);
  CHECK(one.compute({one.needed[0]}) == SE_OK);
  CHECK(one.finish() == SE_INTERNAL);
  CHECK(one.own.result.output[0] == '\xff');
  // The run goes on once it is there.
  CHECK(one.layer.place({one.needed[1]}) == SE_OK);
  CHECK(one.compute_rest() == SE_OK);
  one.layer.clear();
  CHECK(one.finish() == SE_OK);
  one.check_result("after errors");
}

template <typename OneToken>
void check_plain_forward_needs_experts(OneToken& one) {
  one.end();
  CHECK(one.forward() == SE_INTERNAL);
  CHECK(one.layer.place({one.needed[1]}) == SE_OK);
  CHECK(one.forward() == SE_INTERNAL);
  CHECK(one.layer.place({one.needed[0]}) == SE_OK);
  for (int i = 0; i < 3; ++i) CHECK(one.forward() == SE_OK);
  one.check_result("a plain forward");
  one.layer.clear();
  CHECK(one.forward() == SE_INTERNAL);
}

// Rows that the caller writes take the place of experts.
template <typename OneToken>
void check_rows_of_caller() {
  OneToken one;
  SeTensor rows{};
  CHECK(one.layer.place(one.needed) == SE_OK);
  CHECK(one.compute(one.needed) == SE_OK);
  CHECK(one.slot_rows({}, &rows) == SE_OK);
  REQUIRE(rows.shape[0] == 2);
  REQUIRE(rows.shape[1] == 64);
  constexpr uint64_t kRowBytes = 64 * sizeof(float);
  std::vector<float> values(2 * 64);
  one.read_rows(rows, values.data(), 2 * kRowBytes);
  one.layer.clear();
  // One of the two, then both: the shared expert is computed all the same.
  for (const size_t given : {1, 2}) {
    one.end();
    one.begin_wave();
    if (given == 1) {
      CHECK(one.layer.place({one.needed[1]}) == SE_OK);
      CHECK(one.compute({one.needed[1]}) == SE_OK);
      one.layer.clear();
    }
    const auto first = one.needed.begin();
    CHECK(one.slot_rows({first, first + static_cast<int64_t>(given)}, &rows) == SE_OK);
    one.write_rows(rows, values.data(), given * kRowBytes);
    CHECK(one.finish() == SE_OK);
    one.check_result("rows of the caller");
  }
}

// What breaks the order of a run, or names no expert, is refused.
template <typename OneToken>
void check_order() {
  OneToken one;
  CHECK(one.next_wave() == SE_INVALID_ARGUMENT);
  for (const int32_t wrong : {-1, 8, INT32_MAX, INT32_MIN}) {
    CHECK(one.compute({wrong}) == SE_INVALID_ARGUMENT);
    CHECK(one.layer.set({wrong}, {{}}) == SE_INVALID_ARGUMENT);
  }
  const int32_t idle = one.needed[0] == 0 || one.needed[1] == 0 ? 7 : 0;
  CHECK(one.compute({one.needed[0], one.needed[0]}) == SE_INVALID_ARGUMENT);
  const float value = 0;
  CHECK(one.layer.set({idle}, {{nullptr, &value, nullptr}}) == SE_INVALID_ARGUMENT);
  CHECK(one.layer.set({idle}, {{nullptr, &value, &value}}) == SE_INVALID_ARGUMENT);
  CHECK(one.layer.place(one.needed) == SE_OK);
  CHECK(one.compute(one.needed) == SE_OK);
  CHECK(one.compute({one.needed[1]}) == SE_INVALID_ARGUMENT);
  CHECK(one.finish() == SE_OK);
  CHECK(one.finish() == SE_INVALID_ARGUMENT);
  CHECK(one.compute({}) == SE_INVALID_ARGUMENT);
  CHECK(one.next_wave() == SE_OK);
  CHECK(one.wave.num_tokens == 0);
  one.check_result("after refusals");
  const int32_t expert = 0;
  const SeExpertMatrices none{};
  CHECK(one.backend->layer_set_experts(one.resident(), &expert, 1, &none, &one.status) ==
        SE_INVALID_ARGUMENT);
}

// A run begins with the checks of a forward. Leaves one that has begun, with its experts there and `cancel` as its flag.
template <typename OneToken>
void check_begin(OneToken& one, int32_t* cancel) {
  one.end();
  SeForwardArgs& args = one.own.args;
  --one.workspace_bytes;
  CHECK(one.begin() == SE_WORKSPACE_TOO_SMALL);
  ++one.workspace_bytes;
  CHECK(one.status.needed_bytes == one.workspace_bytes);
  CHECK(one.run == nullptr);
  args.hidden.shape[1] = 63;
  CHECK(one.begin() == SE_INVALID_ARGUMENT);
  args.hidden.shape[1] = 64;
  args.cancel = cancel;
  *cancel = 1;
  CHECK(one.begin() == SE_CANCELLED);
  CHECK(one.run == nullptr);
  *cancel = 0;
  one.begin_wave();
  CHECK(one.layer.place(one.needed) == SE_OK);
}

}  // namespace native_test
