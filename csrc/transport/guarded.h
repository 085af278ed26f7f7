// How a transport keeps the rule that no exception crosses its table, and what every one refuses.
#pragma once

#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include "transport/transport.h"

namespace sparse_experts::transport {

class TransportError : public std::exception {
 public:
  TransportError(SeTransportCode code, std::string message)
      : code_(code), message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }
  SeTransportCode code() const { return code_; }

 private:
  SeTransportCode code_;
  std::string message_;
};

[[noreturn]] inline void refuse(std::string message) {
  throw TransportError(SE_TRANSPORT_INVALID_ARGUMENT, std::move(message));
}

inline int32_t write_status(SeStatus* status, SeTransportCode code, const char* message) {
  if (status != nullptr) {
    *status = SeStatus{code, "", 0, 0};
    std::snprintf(status->message, sizeof status->message, "%s", message);
  }
  return code;
}

// Runs `body`; what it throws becomes a status.
template <typename Body>
int32_t guarded(SeStatus* status, const Body& body) {
  try {
    body();
    return write_status(status, SE_TRANSPORT_OK, "");
  } catch (const TransportError& error) {
    return write_status(status, error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return write_status(status, SE_TRANSPORT_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return write_status(status, SE_TRANSPORT_FAILED, error.what());
  } catch (...) {
    return write_status(status, SE_TRANSPORT_FAILED, "unknown failure");
  }
}

inline void check_options(const SeTransportOptions& options) {
  if (options.size < 1 || options.size > SE_TRANSPORT_MAX_RANKS)
    refuse("transport: a group has 1 to " + std::to_string(SE_TRANSPORT_MAX_RANKS) +
           " ranks, received " + std::to_string(options.size));
  if (options.rank < 0 || options.rank >= options.size)
    refuse("transport: rank " + std::to_string(options.rank) + " is not below " +
           std::to_string(options.size));
  if (options.max_message_bytes == 0) refuse("transport: messages of 0 bytes at most");
}

inline void check_peer(const SeTransportOptions& options, int32_t peer) {
  if (peer < 0 || peer >= options.size || peer == options.rank)
    refuse("transport: rank " + std::to_string(options.rank) + " has no peer " +
           std::to_string(peer));
}

inline void check_message(const SeTransportOptions& options, const void* data, uint64_t bytes) {
  if (data == nullptr || bytes == 0 || bytes > options.max_message_bytes)
    refuse("transport: a message has 1 to " + std::to_string(options.max_message_bytes) +
           " bytes, received " + std::to_string(bytes));
}

inline void check_capacity(uint64_t capacity, uint64_t bytes) {
  if (capacity < bytes)
    refuse("transport: an address of " + std::to_string(bytes) + " bytes, room for " +
           std::to_string(capacity));
}

}  // namespace sparse_experts::transport
