// A regular file that is read.
#pragma once

#include <cstdint>
#include <string>

namespace sparse_experts::platform {

// What tells that a file has been written to: its length and the time of its last change.
struct FileStamp {
  uint64_t bytes = 0;
  int64_t changed_ns = 0;  // on a clock of the system's own

  bool operator==(const FileStamp& other) const {
    return bytes == other.bytes && changed_ns == other.changed_ns;
  }
};

class InputFile {
 public:
  // What offsets, counts and memory are multiples of where reads go past the page cache.
  static constexpr uint64_t kUncachedAlignment = 4096;

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
  // The same, for reads past the system's page cache, which take aligned places alone and leave nothing
  // in that cache. False too where the system or this file system has no such reads; some say so at
  // the first read only.
  bool open_uncached(const std::string& path, std::string* problem);
  void close();
  bool is_open() const { return handle_ != kClosed; }
  uint64_t bytes() const { return bytes_; }  // its length when it was opened
  // Reads up to `count` bytes from `offset` on. The number that came, 0 at the file's end, -1 on
  // failure with the reason in *problem. Any number of threads.
  int64_t read_at(uint64_t offset, void* to, uint64_t count, std::string* problem) const;
  // Of the file now. False with the reason in *problem.
  bool stamp(FileStamp* stamp, std::string* problem) const;
  // These bytes will not be read again soon: the page cache need not keep them.
  void forget(uint64_t offset, uint64_t count) const;

 private:
  bool open(const std::string& path, int flags, std::string* problem);

  static constexpr intptr_t kClosed = -1;
  intptr_t handle_ = kClosed;
  uint64_t bytes_ = 0;
};

}  // namespace sparse_experts::platform
