#include "engine/rank_group.h"

#include <algorithm>
#include <string>
#include <utility>

namespace sparse_experts::engine {
namespace {

// Without deadlines the thread looks now and then whether it is to end.
constexpr std::chrono::nanoseconds kLongestPoll = std::chrono::seconds(1);
// Between two looks at what devices have ended, where the transport cannot wait any more.
constexpr std::chrono::milliseconds kBrokenInterval{1};

}  // namespace

RankGroup::RankGroup(const RankOptions& options, const SeTransportTable& table,
                     SeTransport* transport)
    : options_(options),
      table_(table),
      transport_(transport),
      completions_(std::make_shared<CompletionQueue>([this] { table_.wake(transport_); })) {}

void RankGroup::start() {
  thread_ = std::thread([this] { run(); });
}

RankGroup::~RankGroup() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_stopping_ = true;
    fail_all(Failure(ErrorCode::kCancelled, "The group of ranks has ended"));
    std::vector<uint64_t> tasks;
    for (const auto& [id, queued] : tasks_) tasks.push_back(id);
    for (const uint64_t id : tasks) drop_task(id);
  }
  table_.wake(transport_);
  if (thread_.joinable()) thread_.join();
  completions_->close();
  table_.close(transport_);
}

void RankGroup::add_layer(uint32_t number, std::shared_ptr<LayerState> layer,
                          std::vector<int32_t> owner_of) {
  const int64_t num_experts = layer->layer().experts.num_experts;
  if (static_cast<int64_t>(owner_of.size()) != num_experts)
    fail_argument("The layer has " + std::to_string(num_experts) +
                  " experts, owners are named of " + std::to_string(owner_of.size()));
  for (int64_t e = 0; e < num_experts; ++e) {
    const int32_t owner = owner_of[static_cast<size_t>(e)];
    if (owner < 0 || owner >= options_.size || !layer->is_partial() ||
        layer->owns(e) != (owner == options_.rank)) {
      fail_argument("Expert " + std::to_string(e) + " is said to be of rank " +
                    std::to_string(owner) + ", and the layer of rank " +
                    std::to_string(options_.rank) + " does not agree");
    }
  }
  Layer added = {std::move(layer),
                 std::make_shared<const std::vector<int32_t>>(std::move(owner_of))};
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!layers_.emplace(number, std::move(added)).second)
    fail_argument("The group has a layer " + std::to_string(number) + " already");
}

void RankGroup::remove_layer(uint32_t number) {
  std::shared_ptr<LayerState> removed;  // goes after the lock
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = layers_.find(number);
  if (found == layers_.end()) return;
  removed = std::move(found->second.state);
  layers_.erase(found);
}

void RankGroup::submit(uint32_t layer, Forward forward) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = layers_.find(layer);
  if (found == layers_.end() || found->second.state != forward->layer())
    fail_argument("The group has no such layer " + std::to_string(layer));
  RankedForward* const added = forward.get();
  calls_.emplace(added, Call{std::move(forward), layer, found->second.owner_of});
  try {
    queue_step(added);
  } catch (...) {
    calls_.erase(added);
    throw;
  }
}

void RankGroup::cancel(const Forward& forward) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (calls_.find(forward.get()) == calls_.end()) return;
    fail(forward.get(), Failure::from(Status::cancelled()));
    std::vector<uint64_t> steps;
    for (const auto& [id, queued] : tasks_)
      if (queued.forward == forward.get()) steps.push_back(id);
    for (const uint64_t id : steps) drop_task(id);
  }
  post_ended();
}

RankGroup::State RankGroup::state() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return state_;
}

// ---- the group's thread -------------------------------------------------------------------------------

int64_t RankGroup::poll_ns() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::chrono::nanoseconds left = kLongestPoll;
  const Clock::time_point now = Clock::now();
  for (const auto& [forward, call] : calls_) {
    if (forward->num_unanswered_ > 0)
      left = std::min<std::chrono::nanoseconds>(left, forward->deadline_ - now);
  }
  return std::max<int64_t>(0, left.count());
}

void RankGroup::run() {
  for (bool goes_on = true; goes_on;) {
    try {
      goes_on = turn();
    } catch (...) {
      // Without memory for a step or an answer: calls of this rank end, and peers have their deadlines.
      const Failure failure = current_failure();
      const std::lock_guard<std::mutex> lock(mutex_);
      fail_all(failure);
    }
  }
}

// False: the group has ended.
bool RankGroup::turn() {
  SeTransportEvent event = {};
  SeStatus status = {};
  bool is_broken = false;
  if (!is_broken_) {
    is_broken = table_.poll(transport_, poll_ns(), &event, &status) != SE_TRANSPORT_OK;
  } else {
    std::this_thread::sleep_for(kBrokenInterval);
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_broken) break_down(status.message);
    handle(event);
    take_ended_tasks();
    expire();
  }
  post_ended();
  const std::lock_guard<std::mutex> lock(mutex_);
  return !is_stopping_ || !tasks_.empty() || !calls_.empty();
}

void RankGroup::handle(const SeTransportEvent& event) {
  switch (event.kind) {
    case SE_EVENT_SENT:
      sends_.erase(event.ticket);
      return;
    case SE_EVENT_MESSAGE:
      return take_message();
    case SE_EVENT_PEER_LOST:
      return lose(event.peer);
    default:
      return;
  }
}

void RankGroup::take_ended_tasks() {
  for (const CompletionQueue::Event& event : completions_->take()) {
    const auto found = tasks_.find(event.call_id);
    if (found == tasks_.end()) continue;
    Queued ended = std::move(found->second);
    tasks_.erase(found);
    end_task(std::move(ended));
  }
}

void RankGroup::expire() {
  const Clock::time_point now = Clock::now();
  std::vector<std::pair<RankedForward*, int32_t>> late;
  for (const auto& [number, asked] : asked_)
    if (asked.forward->deadline_ <= now) late.emplace_back(asked.forward, asked.peer);
  for (const auto& [forward, peer] : late) {
    // The first of several ends the call.
    if (calls_.find(forward) == calls_.end()) continue;
    fail(forward,
         Failure::of_peer(ErrorCode::kPeerTimeout, peer,
                          "Rank " + std::to_string(peer) + " has not answered within " +
                              std::to_string(options_.timeout.count() / 1'000'000) + " ms"));
  }
}

void RankGroup::post_ended() {
  std::vector<Forward> ended;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ended.swap(ended_);
  }
  for (const Forward& forward : ended) {
    const std::shared_ptr<CompletionQueue> completions = forward->completions;
    completions->post({forward->call_id, CompletionQueue::Event::kDone});
  }
}

}  // namespace sparse_experts::engine
