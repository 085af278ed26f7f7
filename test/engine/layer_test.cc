// A layer's memory: all of it or nothing, whatever fails, and gone when its last user has ended.
#include "engine/layer.h"

#include <doctest/doctest.h>

#include "fixture.h"

using namespace engine_test;

namespace {

SeForwardArgs one_token(const std::atomic<int32_t>* cancel = nullptr) {
  SeForwardArgs args = {};
  args.select.num_tokens = 1;
  args.cancel = reinterpret_cast<const int32_t*>(cancel);
  return args;
}

}  // namespace

TEST_SUITE_BEGIN("layer");

TEST_CASE("a layer that cannot be made leaves nothing behind, whichever call fails") {
  Stub stub;
  const auto executor = make_executor();
  // How many calls of each kind a layer takes.
  const int copies_before = stub.calls(Call::kCopyToDevice);
  {
    LayerState::create(small_layer(), executor);
  }
  const int copies = stub.calls(Call::kCopyToDevice) - copies_before;
  REQUIRE(copies > 3);
  REQUIRE(stub.live_bytes() == 0);
  const auto attempt = [&](Call call, int nth) {
    stub.fail(call, SE_OUT_OF_MEMORY, nth);
    return failure_of([&] { LayerState::create(small_layer(), executor); }).code;
  };
  for (int nth = 0; nth < copies; ++nth) {
    CAPTURE(nth);
    CHECK(attempt(Call::kCopyToDevice, nth) == ErrorCode::kOutOfMemory);
    CHECK(stub.live_bytes() == 0);
  }
  CHECK(attempt(Call::kAllocate, 0) == ErrorCode::kOutOfMemory);
  CHECK(attempt(Call::kLayerOpen, 0) == ErrorCode::kOutOfMemory);
  CHECK(stub.live_bytes() == 0);
  CHECK(stub.open_layers() == 0);
  CHECK(stub.breaches() == 0);
}

TEST_CASE("a device that holds no matrices of the dtype refuses the layer") {
  Stub stub;
  stub.holds_matrices = false;
  const auto executor = make_executor();
  const Failure failure = failure_of([&] { LayerState::create(small_layer(), executor); });
  CHECK(failure.code == ErrorCode::kInvalidArgument);
  CHECK(stub.allocations() == 0);
}

TEST_CASE("sizes that overflow are out of memory before anything is allocated") {
  Stub stub;
  const auto executor = make_executor();
  LayerDescription huge = small_layer();
  huge.hidden_size = huge.intermediate_size = int64_t{1} << 31;
  huge.num_experts = 1 << 20;
  CHECK(failure_of([&] { LayerState::create(huge, executor); }).code == ErrorCode::kOutOfMemory);
  CHECK(stub.allocations() == 0);
}

TEST_CASE("matrices have the shapes of the block, and what it lacks is refused") {
  Stub stub;
  const auto executor = make_executor();
  const auto layer = LayerState::create(small_layer(), executor);
  const MatrixSlot up = layer->matrix_slot(MatrixRole::kExpert, 2, MatrixKind::kUp);
  CHECK(up.rows == 8);
  CHECK(up.cols == 6);
  const MatrixSlot fused = layer->matrix_slot(MatrixRole::kExpert, 0, MatrixKind::kGateUp);
  CHECK(fused.rows == 16);
  CHECK(fused.up_data != nullptr);
  const MatrixSlot down = layer->matrix_slot(MatrixRole::kShared, 0, MatrixKind::kDown);
  CHECK(down.rows == 6);
  CHECK(down.cols == 4);
  const auto slot = [&](MatrixRole role, int64_t expert, MatrixKind kind) {
    return failure_of([&] { layer->matrix_slot(role, expert, kind); }).code;
  };
  CHECK(slot(MatrixRole::kExpert, 3, MatrixKind::kUp) == ErrorCode::kInvalidArgument);
  CHECK(slot(MatrixRole::kExpert, -1, MatrixKind::kUp) == ErrorCode::kInvalidArgument);
  CHECK(slot(MatrixRole::kLatent, 0, MatrixKind::kUp) == ErrorCode::kInvalidArgument);

  LayerDescription ungated = small_layer();
  ungated.activation.gated = 0;
  ungated.vectors[sparse_experts::kGateBias] = {};
  const auto plain = LayerState::create(ungated, executor);
  CHECK(failure_of([&] { plain->matrix_slot(MatrixRole::kExpert, 0, MatrixKind::kGate); }).code ==
        ErrorCode::kInvalidArgument);
}

TEST_CASE("matrices that nobody wrote are zero in the first forward, the others stay") {
  Stub stub;
  const auto executor = make_executor();
  const auto layer = LayerState::create(small_layer(), executor);
  const MatrixSlot written = layer->matrix_slot(MatrixRole::kExpert, 1, MatrixKind::kUp);
  const MatrixSlot unwritten = layer->matrix_slot(MatrixRole::kExpert, 1, MatrixKind::kDown);
  written.data[0] = 7;
  layer->mark_written(MatrixRole::kExpert, 1, MatrixKind::kUp);
  const int writes = stub.calls(Call::kMatrixWrite);
  layer->forward(one_token());
  CHECK(written.data[0] == 7);
  CHECK(unwritten.data[0] == 0);
  CHECK(unwritten.data[6 * 8 * 4 - 1] == 0);
  // 3 experts and the shared one have 3 matrices each, one of which was written.
  CHECK(stub.calls(Call::kMatrixWrite) == writes + 11);
  layer->forward(one_token());
  CHECK(stub.calls(Call::kMatrixWrite) == writes + 11);
  CHECK(stub.breaches() == 0);
}

TEST_CASE("a forward that fails is told, and the next one runs") {
  Stub stub;
  const auto executor = make_executor();
  const auto layer = LayerState::create(small_layer(), executor);
  const auto forward = [&] { layer->forward(one_token()); };
  stub.fail(Call::kMatrixWrite, SE_INTERNAL, 3);
  CHECK(failure_of(forward).code == ErrorCode::kInternal);
  stub.fail(Call::kAllocate, SE_OUT_OF_MEMORY);
  CHECK(failure_of(forward).code == ErrorCode::kOutOfMemory);
  stub.fail(Call::kForward, SE_INTERNAL);
  CHECK(failure_of(forward).code == ErrorCode::kInternal);
  CHECK(failure_of(forward).code == ErrorCode::kNone);
  stub.is_lost = true;
  CHECK(failure_of(forward).code == ErrorCode::kDeviceLost);
  const int calls = stub.calls(Call::kForward);
  stub.is_lost = false;
  CHECK(failure_of(forward).code == ErrorCode::kDeviceLost);
  CHECK(stub.calls(Call::kForward) == calls);
}

TEST_CASE("the backend alone plans a forward, and the workspace grows when it asks for more") {
  Stub stub;
  const auto executor = make_executor();
  const auto layer = LayerState::create(small_layer(), executor);
  const int plans = stub.plans();
  layer->forward(one_token());
  CHECK(executor->workspace_bytes() == 1024);
  const int allocations = stub.allocations();
  layer->forward(one_token());
  CHECK(stub.allocations() == allocations);
  stub.workspace_bytes = 4096;
  layer->forward(one_token());
  CHECK(executor->workspace_bytes() == 4096);
  CHECK(stub.allocations() == allocations + 1);
  stub.workspace_bytes = 512;
  layer->forward(one_token());
  CHECK(executor->workspace_bytes() == 4096);
  CHECK(stub.calls(Call::kForward) == 4);
  CHECK(stub.plans() == plans);
  CHECK(stub.breaches() == 0);
}

TEST_CASE("a task keeps its layer, and its memory goes after the forward has ended") {
  Stub stub;
  auto executor = make_executor();
  Inbox inbox;
  auto layer = LayerState::create(small_layer(), executor);
  stub.hold_forward = true;
  auto task = make_task(inbox, 1, [held = layer](Task& self) mutable {
    failure_of([&] { held->forward(one_token(&self.cancel)); });
    held.reset();
  });
  executor->submit(task);
  REQUIRE(wait_until([&] { return stub.forwards_running() == 1; }));
  layer.reset();
  CHECK(stub.open_layers() == 1);
  CHECK(stub.live_bytes() > 0);
  CHECK(executor->cancel(*task) == CancelResult::kStopping);
  inbox.wait_done(1);
  CHECK(stub.open_layers() == 0);
  CHECK(stub.live_bytes() == 0);
  CHECK(executor->workspace_bytes() == 0);
  CHECK(stub.breaches() == 0);
}

TEST_CASE("forwards of several layers share the device one at a time") {
  Stub stub;
  const auto executor = make_executor();
  Inbox inbox;
  std::vector<std::shared_ptr<LayerState>> layers(3);
  for (auto& layer : layers) layer = LayerState::create(small_layer(), executor);
  for (uint64_t id = 0; id < 30; ++id) {
    executor->submit(make_task(inbox, id, [layer = layers[id % 3]](Task& task) {
      failure_of([&] { layer->forward(one_token(&task.cancel)); });
    }));
  }
  CHECK(inbox.wait_done(30).size() == 30);
  CHECK(stub.calls(Call::kForward) == 30);
  CHECK(stub.most_forwards_at_once() == 1);
}

TEST_SUITE_END();
