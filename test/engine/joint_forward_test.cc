// Calls of one layer that wait run as one: who joins whom, in which order, and that each call gets
// what it would get alone, its failure and its abort included.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <thread>

#include "fixture.h"
#include "host_call.h"

using namespace engine_test;

namespace {

constexpr int64_t kHiddenSize = 6;
constexpr int64_t kTopK = 2;

// Values that count up from `first`.
std::vector<float> counted_rows(int64_t num_tokens, float first) {
  std::vector<float> rows(static_cast<size_t>(num_tokens * kHiddenSize));
  std::iota(rows.begin(), rows.end(), first);
  return rows;
}

// A forward of such rows.
class Forward final : public HostCall {
 public:
  Forward(std::shared_ptr<LayerState> layer, int64_t num_tokens, float first, bool may_join = true)
      : HostCall(std::move(layer), counted_rows(num_tokens, first), may_join) {}

  void use_token_ids(std::vector<int32_t> values) {
    token_ids = std::move(values);
    args_.select.token_ids = token_ids.data();
  }
  void use_row_top_k(std::vector<uint8_t> values) {
    row_top_k = std::move(values);
    args_.select.row_top_k = row_top_k.data();
  }
  // What the stub makes of its rows.
  bool has_results(int64_t kept = kTopK, float share = 1) const {
    for (size_t i = 0; i < output.size(); ++i)
      if (output[i] != 2 * hidden[i]) return false;
    for (size_t i = 0; i < ids.size(); ++i)
      if (ids[i] != kept * 10 + static_cast<int64_t>(i % kTopK) || weights[i] != share)
        return false;
    for (size_t t = 0; t < flags.size(); ++t)
      if (flags[t] != (hidden[t * kHiddenSize] < 0 ? 1 : 0)) return false;
    return true;
  }
  bool is_untouched() const {
    return std::all_of(output.begin(), output.end(), [](float value) { return value == -1; });
  }

  std::vector<int32_t> token_ids;
  std::vector<uint8_t> row_top_k;
  std::chrono::steady_clock::time_point begun;

 private:
  void wait_for_inputs() noexcept override { begun = std::chrono::steady_clock::now(); }
};

// A device whose first call, of one row, runs until `release()`, while others queue up behind it.
struct Queue {
  Stub stub;
  std::shared_ptr<DeviceExecutor> executor;
  std::shared_ptr<LayerState> layer;
  Inbox inbox;
  uint64_t submitted = 0;
  std::shared_ptr<Forward> first;

  explicit Queue(int64_t max_joint_rows = 256, bool is_batch_invariant = true) {
    stub.is_batch_invariant = is_batch_invariant;
    executor = make_executor();
    layer = new_layer(max_joint_rows);
    stub.hold_forward = true;
    first = submit(call(1, 0));
    REQUIRE(wait_until([&] { return stub.forwards_running() == 1; }));
  }
  ~Queue() { release(); }

  std::shared_ptr<LayerState> new_layer(int64_t max_joint_rows) {
    LayerDescription description = small_layer();
    description.max_joint_rows = max_joint_rows;
    return LayerState::create(description, executor);
  }
  std::shared_ptr<Forward> call(int64_t num_tokens, float first, bool may_join = true) const {
    return std::make_shared<Forward>(layer, num_tokens, first, may_join);
  }
  std::shared_ptr<Forward> submit(std::shared_ptr<Forward> task) {
    task->call_id = ++submitted;
    task->owner = this;
    task->completions = inbox.queue();
    inbox.hold(task);
    executor->submit(task);
    return task;
  }
  std::shared_ptr<Forward> submit(int64_t num_tokens, float first) {
    return submit(call(num_tokens, first));
  }
  // Calls of one row.
  std::vector<std::shared_ptr<Forward>> submit_rows(size_t count) {
    std::vector<std::shared_ptr<Forward>> calls(count);
    for (size_t i = 0; i < count; ++i) calls[i] = submit(1, static_cast<float>(i));
    return calls;
  }
  void release() { stub.hold_forward = false; }
  // Rows of the forwards that followed the first one, once `count` calls have ended.
  std::vector<int64_t> forwards(size_t count) {
    release();
    inbox.wait_done(count);
    std::vector<int64_t> rows = stub.rows();
    rows.erase(rows.begin());
    return rows;
  }
};

using Rows = std::vector<int64_t>;

}  // namespace

TEST_SUITE_BEGIN("joint forwards");

TEST_CASE("calls that wait run as one, and each gets its rows") {
  Queue queue;
  std::vector<std::shared_ptr<Forward>> calls;
  for (int64_t i = 0; i < 5; ++i)
    calls.push_back(queue.submit(i, static_cast<float>(100 * i - 150)));
  CHECK(queue.forwards(6) == Rows{10});
  for (const auto& call : calls) {
    CHECK(call->failure().is_ok());
    CHECK(call->has_results());
    CHECK(call->times().rows == 10);
    CHECK(call->times().ran.count() > 0);
    CHECK(call->times().waited.count() > 0);
    CHECK(call->times().is_first == (call == calls[0]));
  }
  CHECK(queue.inbox.wait_done(6) == std::vector<uint64_t>{1, 2, 3, 4, 5, 6});
  CHECK(queue.stub.breaches() == 0);
}

TEST_CASE("budgets are each call's own, one figure or one for each row") {
  Queue queue;
  const auto plain = queue.submit(2, 0);
  auto less = queue.call(3, 50);
  less->args().select.call_top_k = 1;
  less->args().select.top_p = 0.25;
  queue.submit(less);
  auto rows = queue.call(2, 90);
  rows->use_row_top_k({0, 2});
  const std::vector<double> shares = {0.5, 1};
  rows->args().select.row_top_p = shares.data();
  queue.submit(rows);
  CHECK(queue.forwards(4) == Rows{7});
  CHECK(plain->has_results());
  CHECK(less->has_results(1, 0.25F));
  CHECK(rows->ids == std::vector<int32_t>{0, 1, 20, 21});
  CHECK(rows->weights == std::vector<float>{0.5, 0.5, 1, 1});
}

TEST_CASE("a turn has no more rows than the layer allows, and nobody is overtaken") {
  Queue queue(10);
  for (const int64_t rows : {4, 5, 2, 1, 30, 3, 3}) queue.submit(rows, 0);
  CHECK(queue.forwards(8) == Rows{9, 3, 30, 6});
  CHECK(queue.inbox.wait_done(8) == std::vector<uint64_t>{1, 2, 3, 4, 5, 6, 7, 8});
}

TEST_CASE("calls of other layers keep their places, and their order among themselves") {
  Queue queue;
  const auto first = queue.layer;
  const auto second = queue.new_layer(256);
  for (int i = 0; i < 6; ++i) {
    queue.layer = i % 2 == 0 ? first : second;
    queue.submit(1 + i, 0);
  }
  CHECK(queue.forwards(7) == Rows{1 + 3 + 5, 2 + 4 + 6});
  CHECK(queue.inbox.wait_done(7) == std::vector<uint64_t>{1, 2, 4, 6, 3, 5, 7});
}

TEST_CASE("what cannot join ends a turn: other arrays, another dtype, a call that will not") {
  Queue queue;
  queue.submit(1, 0);
  auto other = queue.call(1, 0);
  SUBCASE("token ids") { other->use_token_ids({3}); }
  SUBCASE("router input") { other->args().router_input.data = other->hidden.data(); }
  SUBCASE("a replay") { other->args().replay = 1; }
  SUBCASE("another dtype") { other->args().hidden.dtype = SE_BF16; }
  SUBCASE("a call that will not") { other = queue.call(1, 0, false); }
  queue.submit(other);
  queue.submit(1, 0);
  queue.submit(1, 0);
  CHECK(queue.forwards(5) == Rows{1, 1, 2});
}

TEST_CASE("arrays that a layer reads travel along") {
  Queue queue;
  const std::vector<float> router_input(12, 0.5F);
  std::vector<std::shared_ptr<Forward>> calls;
  for (int i = 0; i < 2; ++i) {
    auto call = queue.call(2, static_cast<float>(10 * i));
    call->args().router_input.data = const_cast<float*>(router_input.data());
    call->args().replay = 1;
    call->weights = {static_cast<float>(i), 1, static_cast<float>(i + 1), 1};
    calls.push_back(queue.submit(call));
  }
  CHECK(queue.forwards(3) == Rows{4});
  for (int i = 0; i < 2; ++i) {
    const Forward& call = *calls[static_cast<size_t>(i)];
    CHECK(call.output[0] == 2 * call.hidden[0] + 0.5F + static_cast<float>(i));
    CHECK(call.output[6] == 2 * call.hidden[6] + 0.5F + static_cast<float>(i + 1));
    CHECK(call.ids == std::vector<int32_t>{-7, -7, -7, -7});
  }
}

TEST_CASE("layers whose rows depend on each other, and layers that are told so, run call by call") {
  SUBCASE("the device does not keep rows apart") {
    Queue queue(256, false);
    queue.submit(2, 0);
    queue.submit(3, 0);
    CHECK(queue.forwards(3) == Rows{2, 3});
  }
  SUBCASE("not wanted") {
    Queue queue(0);
    queue.submit(2, 0);
    queue.submit(3, 0);
    CHECK(queue.forwards(3) == Rows{2, 3});
  }
  SUBCASE("expert capacity") {
    Stub stub;
    LayerDescription description = small_layer();
    description.max_joint_rows = 256;
    const auto executor = make_executor();
    CHECK(LayerState::create(description, executor)->max_joint_rows() == 256);
    description.routing.capacity = SE_CAPACITY_PER_SEQUENCE;
    CHECK(LayerState::create(description, executor)->max_joint_rows() == 0);
  }
  SUBCASE("a device that keeps them apart when it is asked to") {
    Stub stub;
    stub.is_batch_invariant = false;
    LayerDescription description = small_layer();
    description.max_joint_rows = 256;
    description.options.batch_invariant = 1;
    CHECK(LayerState::create(description, make_executor())->max_joint_rows() == 256);
  }
}

TEST_CASE("who fails fails alone, whatever the place") {
  for (int bad = 0; bad < 5; ++bad) {
    CAPTURE(bad);
    Queue queue;
    std::vector<std::shared_ptr<Forward>> calls;
    for (int i = 0; i < 5; ++i) {
      auto call = queue.call(2, static_cast<float>(10 * i));
      call->use_token_ids({1, i == bad ? -1 : 1});
      calls.push_back(queue.submit(call));
    }
    queue.release();
    queue.inbox.wait_done(6);
    for (int i = 0; i < 5; ++i) {
      const Forward& call = *calls[static_cast<size_t>(i)];
      CHECK(call.failure().code == (i == bad ? ErrorCode::kInvalidArgument : ErrorCode::kNone));
      CHECK((i == bad ? call.is_untouched() : call.has_results()));
    }
  }
}

TEST_CASE("where the scratch of all is refused, calls take less") {
  Queue queue;
  queue.release();
  queue.inbox.wait_done(1);
  queue.stub.hold_forward = true;
  queue.submit(1, 0);
  REQUIRE(wait_until([&] { return queue.stub.forwards_running() == 1; }));
  // The stub takes a kibibyte for each row.
  queue.stub.memory_limit = queue.stub.live_bytes() + 2 * 1024;
  const auto calls = queue.submit_rows(4);
  queue.release();
  queue.inbox.wait_done(6);
  for (const auto& call : calls) CHECK(call->has_results());
  CHECK(queue.stub.rows() == Rows{1, 1, 2, 2});
}

TEST_CASE("a turn takes the scratch of the rows that it may have, whoever waits") {
  Queue queue(8);
  for (int i = 0; i < 100; ++i) queue.submit(1 + i % 3, 0);
  const std::vector<int64_t> rows = queue.forwards(101);
  CHECK(*std::max_element(rows.begin(), rows.end()) == 8);
  CHECK(queue.executor->workspace_bytes() == 8 * queue.stub.workspace_bytes);
}

TEST_CASE(
    "a turn with room waits for callers that have not heard of their ends, and not for long") {
  constexpr std::chrono::milliseconds kPatience{5};
  Queue queue;
  const auto waiting = queue.submit(1, 0);
  std::this_thread::sleep_for(2 * kPatience);  // a turn waits no longer than the last one took
  const auto before = std::chrono::steady_clock::now();
  queue.release();
  // Nobody takes an event.
  REQUIRE(wait_until([&] { return queue.stub.rows().size() == 2; }));
  queue.executor->run_exclusive([] {});
  CHECK(waiting->begun - before >= kPatience);
  CHECK(waiting->has_results());
}

TEST_CASE("the callers of a turn hear of its ends together, each thread of its own") {
  Queue queue;
  std::atomic<int> wakes{0};
  const auto others = std::make_shared<CompletionQueue>([&] { ++wakes; });
  std::vector<std::shared_ptr<Forward>> calls;
  for (int i = 0; i < 5; ++i) {
    calls.push_back(queue.call(1, static_cast<float>(i)));
    calls.back()->call_id = ++queue.submitted;
    calls.back()->completions = others;
    queue.executor->submit(calls.back());
  }
  queue.submit(1, 5);
  CHECK(queue.forwards(2) == Rows{6});
  // The last of the turn has been heard of, so the others have been posted.
  CHECK(wakes == 1);
  std::vector<uint64_t> heard;
  for (const CompletionQueue::Event& event : others->take()) heard.push_back(event.call_id);
  CHECK(heard == std::vector<uint64_t>{2, 3, 4, 5, 6});
  others->close();
}

TEST_CASE("a device that is lost answers all calls of a turn with the cause") {
  Queue queue;
  const auto calls = queue.submit_rows(4);
  queue.stub.is_lost = true;
  queue.release();
  queue.inbox.wait_done(5);
  for (const auto& call : calls) CHECK(call->failure().code == ErrorCode::kDeviceLost);
}

TEST_CASE("aborts: in the queue, in a turn, and of all that a turn has") {
  Queue queue;
  const auto calls = queue.submit_rows(4);
  CHECK(queue.executor->cancel(*calls[1]) == CancelResult::kDropped);
  // The first call ends by its own abort, and the turn of the others begins.
  queue.executor->cancel(*queue.first);
  queue.inbox.wait_done(1);
  REQUIRE(wait_until([&] { return queue.stub.forwards_running() == 1; }));
  CHECK(queue.executor->cancel(*calls[0]) == CancelResult::kStopping);
  CHECK(queue.executor->cancel(*calls[2]) == CancelResult::kStopping);
  SUBCASE("some: the turn goes on for the others") {
    queue.release();
    queue.inbox.wait_done(4);
    CHECK(calls[3]->has_results());
    CHECK(calls[3]->failure().is_ok());
  }
  SUBCASE("all: it stops") {
    CHECK(queue.executor->cancel(*calls[3]) == CancelResult::kStopping);
    queue.inbox.wait_done(4);
    for (const int i : {0, 2, 3}) {
      CHECK(calls[static_cast<size_t>(i)]->failure().code == ErrorCode::kCancelled);
      CHECK(calls[static_cast<size_t>(i)]->is_untouched());
    }
  }
  CHECK(calls[1]->is_untouched());
}

TEST_CASE("an owner that leaves ends its turn, and nobody holds its calls then") {
  Queue queue;
  const auto calls = queue.submit_rows(3);
  queue.executor->cancel(*queue.first);
  queue.inbox.wait_done(1);
  REQUIRE(wait_until([&] { return queue.stub.forwards_running() == 1; }));
  queue.executor->drop_all(&queue);
  CHECK(queue.stub.forwards_running() == 0);
  // The inbox and this test.
  for (const auto& call : calls) CHECK(call.use_count() == 2);
}

TEST_CASE("calls of many threads and layers, some of them aborted") {
  Stub stub;
  const auto executor = make_executor();
  Inbox inbox;
  LayerDescription description = small_layer();
  description.max_joint_rows = 16;
  std::vector<std::shared_ptr<LayerState>> layers(2);
  for (auto& layer : layers) layer = LayerState::create(description, executor);
  std::atomic<uint64_t> submitted{0};
  std::atomic<size_t> dropped{0};
  std::vector<std::vector<std::shared_ptr<Forward>>> calls(4);
  std::vector<std::thread> threads;
  for (size_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 100; ++i) {
        auto call = std::make_shared<Forward>(layers[static_cast<size_t>(i % 2)], 1 + i % 3,
                                              static_cast<float>(1000 * i));
        call->call_id = ++submitted;
        call->completions = inbox.queue();
        calls[thread].push_back(call);
        executor->submit(call);
        if (i % 5 == 0 && executor->cancel(*call) == CancelResult::kDropped) {
          ++dropped;
          calls[thread].pop_back();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  inbox.wait_done(400 - dropped);
  executor->run_exclusive([] {});
  for (const auto& of_thread : calls) {
    for (const auto& call : of_thread) {
      const bool is_cancelled = call->cancel != 0;
      CHECK((is_cancelled || (call->failure().is_ok() && call->has_results())));
    }
  }
  CHECK(stub.most_forwards_at_once() == 1);
  CHECK(stub.breaches() == 0);
}

TEST_SUITE_END();
