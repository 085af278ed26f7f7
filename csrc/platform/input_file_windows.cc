#include <algorithm>

#include "platform/input_file.h"
#include "platform/windows.h"

namespace sparse_experts::platform {
namespace {

// What one call of the system takes fits into 32 bits.
constexpr uint64_t kMaxRead = uint64_t{1} << 30;

HANDLE as_handle(intptr_t handle) { return reinterpret_cast<HANDLE>(handle); }

}  // namespace

bool InputFile::open(const std::string& path, std::string* problem) {
  return open(path, 0, problem);
}

bool InputFile::open_uncached(const std::string& /*path*/, std::string* problem) {
  *problem = "not on Windows";
  return false;
}

bool InputFile::open(const std::string& path, int flags, std::string* problem) {
  close();
  const std::wstring name = wide_path(path);
  const DWORD attributes = GetFileAttributesW(name.c_str());
  if (attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0) {
    *problem = "not a regular file";
    return false;
  }
  // Shared as on POSIX: others may write, rename and delete it meanwhile.
  const HANDLE file = CreateFileW(
      name.c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, nullptr,
      OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL | static_cast<DWORD>(flags), nullptr);
  if (file == INVALID_HANDLE_VALUE) {
    *problem = error_text(GetLastError());
    return false;
  }
  handle_ = reinterpret_cast<intptr_t>(file);
  LARGE_INTEGER size;
  if (GetFileType(file) != FILE_TYPE_DISK) {
    *problem = "not a regular file";
  } else if (GetFileSizeEx(file, &size) == 0) {
    *problem = error_text(GetLastError());
  } else {
    bytes_ = static_cast<uint64_t>(size.QuadPart);
    return true;
  }
  close();
  return false;
}

void InputFile::close() {
  if (is_open()) CloseHandle(as_handle(handle_));
  handle_ = kClosed;
}

int64_t InputFile::read_at(uint64_t offset, void* to, uint64_t count, std::string* problem) const {
  OVERLAPPED place = {};
  place.Offset = static_cast<DWORD>(offset & 0xffffffff);
  place.OffsetHigh = static_cast<DWORD>(offset >> 32);
  DWORD got = 0;
  const auto wanted = static_cast<DWORD>(std::min(count, kMaxRead));
  if (ReadFile(as_handle(handle_), to, wanted, &got, &place) != 0) return got;
  const DWORD code = GetLastError();
  if (code == ERROR_HANDLE_EOF) return 0;
  *problem = error_text(code);
  return -1;
}

bool InputFile::stamp(FileStamp* stamp, std::string* problem) const {
  LARGE_INTEGER size;
  FILETIME written;
  if (GetFileSizeEx(as_handle(handle_), &size) == 0 ||
      GetFileTime(as_handle(handle_), nullptr, nullptr, &written) == 0) {
    *problem = error_text(GetLastError());
    return false;
  }
  stamp->bytes = static_cast<uint64_t>(size.QuadPart);
  const uint64_t ticks =
      static_cast<uint64_t>(written.dwHighDateTime) << 32 | written.dwLowDateTime;
  stamp->changed_ns = static_cast<int64_t>(ticks) * 100;
  return true;
}

// The system has no such hint.
void InputFile::forget(uint64_t /*offset*/, uint64_t /*count*/) const {}

}  // namespace sparse_experts::platform
