// A regular file that is read.
#pragma once

#include <cstdint>
#include <string>

namespace sparse_experts::platform {

class InputFile {
 public:
  InputFile() = default;
  ~InputFile() { close(); }
  InputFile(InputFile&& other) noexcept : handle_(other.handle_), bytes_(other.bytes_) {
    other.handle_ = kClosed;
  }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  InputFile& operator=(InputFile&&) = delete;

  // False where it cannot be opened or is no regular file, with the reason in *problem. Never waits
  // for a writer of a pipe.
  bool open(const std::string& path, std::string* problem);
  void close();
  bool is_open() const { return handle_ != kClosed; }
  uint64_t bytes() const { return bytes_; }  // its length when it was opened
  // Reads up to `count` bytes from `offset` on. The number that came, 0 at the file's end, -1 on
  // failure with the reason in *problem. Any number of threads.
  int64_t read_at(uint64_t offset, void* to, uint64_t count, std::string* problem) const;

 private:
  static constexpr intptr_t kClosed = -1;
  intptr_t handle_ = kClosed;
  uint64_t bytes_ = 0;
};

}  // namespace sparse_experts::platform
