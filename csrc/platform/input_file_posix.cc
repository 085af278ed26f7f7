#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "platform/input_file.h"

namespace sparse_experts::platform {

bool InputFile::open(const std::string& path, std::string* problem) {
  close();
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
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

}  // namespace sparse_experts::platform
