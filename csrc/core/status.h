// Status: an SeCode with a message, the error value of everything below the binding. No exceptions
// cross a backend.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#include "abi/backend.h"

// Returns the status from the calling function unless it is ok.
#define SE_RETURN_IF_ERROR(expression)                  \
  do {                                                  \
    ::sparse_experts::Status se_status_ = (expression); \
    if (!se_status_.is_ok()) return se_status_;         \
  } while (false)

namespace sparse_experts {

class Status {
 public:
  Status() = default;
  Status(SeCode code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status ok() { return {}; }
  static Status invalid(std::string message) { return {SE_INVALID_ARGUMENT, std::move(message)}; }
  static Status cancelled() { return {SE_CANCELLED, "cancelled"}; }
  static Status out_of_memory(uint64_t needed_bytes, uint64_t free_bytes) {
    Status status(SE_OUT_OF_MEMORY,
                  "out of memory: " + std::to_string(needed_bytes) + " bytes needed");
    status.needed_bytes_ = needed_bytes;
    status.free_bytes_ = free_bytes;
    return status;
  }

  static Status workspace_too_small(uint64_t held_bytes, uint64_t needed_bytes) {
    Status status(SE_WORKSPACE_TOO_SMALL, "forward: the workspace has " +
                                              std::to_string(held_bytes) + " bytes, " +
                                              std::to_string(needed_bytes) + " are needed");
    status.needed_bytes_ = needed_bytes;
    return status;
  }

  bool is_ok() const { return code_ == SE_OK; }
  SeCode code() const { return code_; }
  const std::string& message() const { return message_; }
  uint64_t needed_bytes() const { return needed_bytes_; }
  uint64_t free_bytes() const { return free_bytes_; }

  // Writes into the C form; a longer message is cut. Returns the code, so that an ABI function can
  // end with it.
  int32_t write_to(SeStatus* out) const {
    if (out != nullptr) {
      out->code = code_;
      std::snprintf(out->message, sizeof out->message, "%s", message_.c_str());
      out->needed_bytes = needed_bytes_;
      out->free_bytes = free_bytes_;
    }
    return code_;
  }

 private:
  SeCode code_ = SE_OK;
  std::string message_;
  uint64_t needed_bytes_ = 0;
  uint64_t free_bytes_ = 0;
};

}  // namespace sparse_experts
