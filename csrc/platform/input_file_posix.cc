#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "platform/input_file.h"

namespace sparse_experts::platform {

bool InputFile::open(const std::string& path, std::string* problem) {
  return open(path, 0, problem);
}

bool InputFile::open_uncached(const std::string& path, std::string* problem) {
#if defined(O_DIRECT)
  return open(path, O_DIRECT, problem);
#else
  *problem = "this system has no reads past its page cache";
  return false;
#endif
}

bool InputFile::open(const std::string& path, int flags, std::string* problem) {
  close();
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags);
  if (descriptor < 0) {
    *problem = std::strerror(errno);
    return false;
  }
  handle_ = descriptor;
  struct stat info;
  if (fstat(descriptor, &info) != 0) {
    *problem = std::strerror(errno);
  } else if (!S_ISREG(info.st_mode)) {
    *problem = "not a regular file";
  } else {
    bytes_ = static_cast<uint64_t>(info.st_size);
    return true;
  }
  close();
  return false;
}

void InputFile::close() {
  if (is_open()) ::close(static_cast<int>(handle_));
  handle_ = kClosed;
}

int64_t InputFile::read_at(uint64_t offset, void* to, uint64_t count, std::string* problem) const {
  ssize_t got = -1;
  do {
    got = pread(static_cast<int>(handle_), to, count, static_cast<off_t>(offset));
  } while (got < 0 && errno == EINTR);
  if (got < 0) *problem = std::strerror(errno);
  return got;
}

bool InputFile::stamp(FileStamp* stamp, std::string* problem) const {
  struct stat info;
  if (fstat(static_cast<int>(handle_), &info) != 0) {
    *problem = std::strerror(errno);
    return false;
  }
#if defined(__APPLE__)
  const timespec changed = info.st_mtimespec;
#else
  const timespec changed = info.st_mtim;
#endif
  stamp->bytes = static_cast<uint64_t>(info.st_size);
  stamp->changed_ns = static_cast<int64_t>(changed.tv_sec) * 1'000'000'000 + changed.tv_nsec;
  return true;
}

void InputFile::forget(uint64_t offset, uint64_t count) const {
#if defined(POSIX_FADV_DONTNEED)
  // A hint: where it is refused the cache keeps them for a while.
  static_cast<void>(posix_fadvise(static_cast<int>(handle_), static_cast<off_t>(offset),
                                  static_cast<off_t>(count), POSIX_FADV_DONTNEED));
#else
  static_cast<void>(offset);
  static_cast<void>(count);
#endif
}

}  // namespace sparse_experts::platform
