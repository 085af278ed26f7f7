// A rank of two that exchanges messages with the other over UCX, and tells how long that takes.
//
//   rank_exchange RANK
//
// Standard output: the rank's address in hex. Standard input: the other's, then lines "BYTES TIMES", upon
// which so many messages go each way, each after the one before it has come, and rank 0 prints their
// microseconds.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "transport/ucx.h"

namespace {

constexpr int64_t kPatience = 10'000'000'000;

[[noreturn]] void stop(const char* why) {
  std::fprintf(stderr, "rank_exchange: %s\n", why);
  std::exit(1);
}

class Rank {
 public:
  explicit Rank(int32_t rank) : peer_(1 - rank) {
    SeTransportOptions options = {};
    options.rank = rank;
    options.size = 2;
    options.max_message_bytes = uint64_t{1} << 30;
    check(table_.open(&options, &transport_, &status_));
  }
  ~Rank() { table_.close(transport_); }
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;

  std::string address() {
    std::vector<uint8_t> bytes(SE_TRANSPORT_MAX_ADDRESS_BYTES);
    uint64_t length = 0;
    check(table_.address(transport_, bytes.data(), bytes.size(), &length, &status_));
    std::string text;
    char digits[3];
    for (uint64_t i = 0; i < length; ++i) {
      std::snprintf(digits, sizeof digits, "%02x", bytes[i]);
      text += digits;
    }
    return text;
  }
  void connect(const std::string& address) {
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i + 1 < address.size(); i += 2)
      bytes.push_back(
          static_cast<uint8_t>(std::strtoul(address.substr(i, 2).c_str(), nullptr, 16)));
    check(table_.connect(transport_, peer_, bytes.data(), bytes.size(), &status_));
  }

  // One message each way, both on their way at once.
  void exchange(const std::vector<uint8_t>& message) {
    uint64_t ticket = 0;
    check(table_.send(transport_, peer_, message.data(), message.size(), &ticket, &status_));
    // The other may be one message ahead.
    for (bool has_left = false; !has_left || num_arrived_ == 0;) {
      SeTransportEvent event = {};
      check(table_.poll(transport_, kPatience, &event, &status_));
      if (event.kind == SE_EVENT_NONE || event.kind == SE_EVENT_PEER_LOST)
        stop("the other is gone");
      has_left = has_left || event.kind == SE_EVENT_SENT;
      if (event.kind != SE_EVENT_MESSAGE) continue;
      SeTransportMessage arrived = {};
      check(table_.recv(transport_, &arrived, &status_));
      if (arrived.bytes != message.size()) stop("a message of another length");
      table_.release(transport_, &arrived);
      ++num_arrived_;
    }
    --num_arrived_;
  }

 private:
  void check(int32_t code) const {
    if (code != SE_TRANSPORT_OK) stop(status_.message);
  }

  const SeTransportTable& table_ = sparse_experts::transport::ucx_transport();
  const int32_t peer_;
  SeTransport* transport_ = nullptr;
  int num_arrived_ = 0;  // messages of exchanges that have not ended
  SeStatus status_ = {};
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) stop("usage: rank_exchange RANK");
  const int rank = std::atoi(argv[1]);
  Rank own(rank);
  std::cout << own.address() << std::endl;
  std::string line;
  if (!std::getline(std::cin, line)) return 0;
  own.connect(line);
  while (std::getline(std::cin, line)) {
    uint64_t bytes = 0;
    int times = 0;
    std::istringstream(line) >> bytes >> times;
    const std::vector<uint8_t> message(bytes, 1);
    std::ostringstream measured;
    for (int i = 0; i < times; ++i) {
      const auto begun = std::chrono::steady_clock::now();
      own.exchange(message);
      const auto took = std::chrono::steady_clock::now() - begun;
      measured << std::chrono::duration<double, std::micro>(took).count() << ' ';
    }
    if (rank == 0) std::cout << measured.str() << std::endl;
  }
  return 0;
}
