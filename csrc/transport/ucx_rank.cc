#include "transport/ucx_rank.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "platform/descriptor.h"
#include "platform/environment.h"
#include "transport/guarded.h"

namespace sparse_experts::transport::ucx {
namespace {

// How long close waits for what is still on its way out.
constexpr std::chrono::milliseconds kClosePatience{500};

constexpr int kProgressAtOnce = 256;

void check(Status status, const char* what) {
  if (status < 0)
    throw TransportError(SE_TRANSPORT_FAILED,
                         std::string("ucx: ") + what + " fails with " + std::to_string(status));
}

}  // namespace

Rank::Rank(const SeTransportOptions& options)
    : options_(options),
      interface_name_(options.interface_name != nullptr ? options.interface_name : "lo"),
      ucx_(library()),
      peers_(static_cast<size_t>(options.size)) {
  for (size_t i = 0; i < peers_.size(); ++i) {
    peers_[i].rank = this;
    peers_[i].number = static_cast<int32_t>(i);
  }
  try {
    open_worker();
  } catch (...) {
    release();
    throw;
  }
}

void Rank::open_worker() {
  Config config = nullptr;
  check(ucx_.config_read(nullptr, nullptr, &config), "ucp_config_read");
  const std::unique_ptr<void, void (*)(Config)> kept(config, ucx_.config_release);
  // By default it listens on every interface.
  check(ucx_.config_modify(config, "NET_DEVICES", interface_name_.c_str()), "NET_DEVICES");
  if (platform::environment_variable("UCX_TLS").empty())
    check(ucx_.config_modify(config, "TLS", "tcp"), "TLS");
  ContextParams params = {};
  params.field_mask = kParamFeatures;
  params.features = kFeatureTag | kFeatureWakeup;
  if (ucx_.init_version(1, 13, &params, config, &context_) < 0) {
    context_ = nullptr;
    throw TransportError(SE_TRANSPORT_UNAVAILABLE,
                         "ucx: no transport on the interface '" + interface_name_ + "'");
  }
  WorkerParams worker = {};
  worker.field_mask = kWorkerThreadMode;
  worker.thread_mode = kThreadsSerialized;
  const Status made = ucx_.worker_create(context_, &worker, &worker_);
  if (made < 0) worker_ = nullptr;
  check(made, "ucp_worker_create");
  check(ucx_.worker_get_efd(worker_, &descriptor_), "ucp_worker_get_efd");
  void* address = nullptr;
  size_t bytes = 0;
  check(ucx_.worker_get_address(worker_, &address, &bytes), "ucp_worker_get_address");
  address_.assign(static_cast<const uint8_t*>(address),
                  static_cast<const uint8_t*>(address) + bytes);
  ucx_.worker_release_address(worker_, address);
}

Rank::~Rank() {
  close_endpoints();
  release();
}

void Rank::release() noexcept {
  if (worker_ != nullptr) ucx_.worker_destroy(worker_);
  if (context_ != nullptr) ucx_.cleanup(context_);
  for (SeTransportMessage& message : arrived_) FreeMessage()(message.owner);
}

void Rank::close_endpoints() {
  std::vector<void*> closing;
  for (Peer& peer : peers_) {
    if (peer.endpoint == nullptr) continue;
    RequestParams params = {};
    if (peer.is_to_close) {
      params.attributes = kAttributeFlags;
      params.flags = kCloseForce;
    }
    const StatusPointer pointer = ucx_.ep_close_nbx(peer.endpoint, &params);
    if (pointer != nullptr && !is_error(pointer)) closing.push_back(pointer);
  }
  const auto is_closed = [this](void* request) { return ucx_.request_check_status(request) <= 0; };
  const Clock::time_point end = Clock::now() + kClosePatience;
  while (!std::all_of(closing.begin(), closing.end(), is_closed) && Clock::now() < end) {
    if (ucx_.worker_progress(worker_) == 0) platform::wait_readable(descriptor_, 1'000'000);
  }
  for (void* request : closing) ucx_.request_free(request);
}

void Rank::submit(Command command) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    commands_.push_back(std::move(command));
  }
  ucx_.worker_signal(worker_);
}

void Rank::connect(int32_t peer, const void* address, uint64_t bytes) {
  if (bytes == 0 || bytes > SE_TRANSPORT_MAX_ADDRESS_BYTES)
    refuse("transport: that is not the address of rank " + std::to_string(peer));
  int32_t expected = SE_PEER_UNKNOWN;
  if (!peers_[static_cast<size_t>(peer)].state.compare_exchange_strong(expected, SE_PEER_CONNECTED))
    refuse("transport: peer " + std::to_string(peer) + " is connected already, or lost");
  Command command;
  command.kind = Command::kConnect;
  command.peer = peer;
  command.address.assign(static_cast<const uint8_t*>(address),
                         static_cast<const uint8_t*>(address) + bytes);
  submit(std::move(command));
}

uint64_t Rank::send(int32_t peer, const void* data, uint64_t bytes) {
  Command command;
  command.peer = peer;
  command.data = data;
  command.bytes = bytes;
  uint64_t ticket = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ticket = command.ticket = ++last_ticket_;
  }
  submit(std::move(command));
  return ticket;
}

void Rank::cancel(uint64_t ticket) {
  Command command;
  command.kind = Command::kCancel;
  command.ticket = ticket;
  submit(std::move(command));
}

void Rank::wake() {
  is_woken_ = true;
  ucx_.worker_signal(worker_);
}

void Rank::run_commands() {
  std::deque<Command> commands;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    commands.swap(commands_);
  }
  for (const Command& command : commands) run(command);
}

void Rank::run(const Command& command) {
  switch (command.kind) {
    case Command::kConnect:
      return start_connect(command);
    case Command::kSend:
      return start_send(command);
    case Command::kCancel: {
      const auto found = sends_.find(command.ticket);
      if (found != sends_.end()) ucx_.request_cancel(worker_, found->second->request);
    }
  }
}

void Rank::start_connect(const Command& command) {
  Peer& peer = peers_[static_cast<size_t>(command.peer)];
  if (peer.state == SE_PEER_LOST) return;  // by what it has sent already
  EndpointParams params = {};
  params.field_mask = kEndpointAddress | kEndpointErrorMode | kEndpointErrorHandler;
  params.address = command.address.data();
  params.error_mode = kErrorModePeer;
  params.error_handler = on_error;
  params.error_argument = &peer;
  if (ucx_.ep_create(worker_, &params, &peer.endpoint) < 0) {
    peer.endpoint = nullptr;
    lose(command.peer);
  }
}

void Rank::lose(int32_t peer) {
  if (peer < 0) return;
  Peer& lost = peers_[static_cast<size_t>(peer)];
  if (lost.state.exchange(SE_PEER_LOST) == SE_PEER_LOST) return;
  lost.is_to_close = lost.endpoint != nullptr;
  events_.push_back({SE_EVENT_PEER_LOST, peer, 0, 0});
}

// Not from inside of progress: an endpoint ends its operations there.
void Rank::close_lost() {
  for (Peer& peer : peers_) {
    if (!std::exchange(peer.is_to_close, false)) continue;
    RequestParams params = {};
    params.attributes = kAttributeFlags;
    params.flags = kCloseForce;
    const StatusPointer pointer = ucx_.ep_close_nbx(std::exchange(peer.endpoint, nullptr), &params);
    // Released when it ends.
    if (pointer != nullptr && !is_error(pointer)) ucx_.request_free(pointer);
    std::vector<void*> requests;
    for (const auto& [receive, held] : receives_)
      if (held->peer == peer.number && held->request != nullptr) requests.push_back(held->request);
    for (void* request : requests) ucx_.request_cancel(worker_, request);
  }
}

void Rank::on_error(void* argument, Endpoint /*endpoint*/, Status /*status*/) {
  const auto* peer = static_cast<const Peer*>(argument);
  try {
    peer->rank->lose(peer->number);
  } catch (...) {
    peer->rank->is_out_of_memory_ = true;
  }
}

SeTransportEvent Rank::poll(int64_t timeout_ns) {
  const Clock::time_point end = Clock::now() + std::chrono::nanoseconds(timeout_ns);
  for (;;) {
    run_commands();
    // What comes without end must not keep this thread from what has come.
    for (int i = 0; i < kProgressAtOnce && ucx_.worker_progress(worker_) != 0; ++i) {
    }
    take_messages();
    close_lost();
    if (is_out_of_memory_) throw std::bad_alloc();
    if (!events_.empty()) {
      const SeTransportEvent event = events_.front();
      events_.pop_front();
      return event;
    }
    const Clock::duration left = end - Clock::now();
    if (is_woken_.exchange(false) || left <= left.zero()) return {};
    // Busy: something has come meanwhile, a command's signal too.
    const Status armed = ucx_.worker_arm(worker_);
    if (armed == kBusy) continue;
    check(armed, "ucp_worker_arm");
    platform::wait_readable(descriptor_,
                            std::chrono::duration_cast<std::chrono::nanoseconds>(left).count());
  }
}

}  // namespace sparse_experts::transport::ucx
