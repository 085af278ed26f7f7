#include "platform/windows.h"

namespace sparse_experts::platform {

std::wstring wide(const std::string& text) {
  const int bytes = static_cast<int>(text.size());
  const int count = MultiByteToWideChar(CP_UTF8, 0, text.data(), bytes, nullptr, 0);
  std::wstring result(static_cast<size_t>(count), L'\0');
  MultiByteToWideChar(CP_UTF8, 0, text.data(), bytes, result.data(), count);
  return result;
}

std::string utf8(const std::wstring& text) {
  const int units = static_cast<int>(text.size());
  const int count =
      WideCharToMultiByte(CP_UTF8, 0, text.data(), units, nullptr, 0, nullptr, nullptr);
  std::string result(static_cast<size_t>(count), '\0');
  WideCharToMultiByte(CP_UTF8, 0, text.data(), units, result.data(), count, nullptr, nullptr);
  return result;
}

std::wstring wide_path(const std::string& path) {
  std::wstring result = wide(path);
  if (result.size() < MAX_PATH || result.rfind(L"\\\\?\\", 0) == 0) return result;
  const DWORD needed = GetFullPathNameW(result.c_str(), 0, nullptr, nullptr);
  std::wstring full(needed, L'\0');
  full.resize(GetFullPathNameW(result.c_str(), needed, full.data(), nullptr));
  if (full.empty()) return result;
  return full.rfind(L"\\\\", 0) == 0 ? L"\\\\?\\UNC" + full.substr(1) : L"\\\\?\\" + full;
}

std::string error_text(DWORD code) {
  wchar_t* text = nullptr;
  const DWORD flags =
      FORMAT_MESSAGE_ALLOCATE_BUFFER | FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS;
  const DWORD size =
      FormatMessageW(flags, nullptr, code, 0, reinterpret_cast<wchar_t*>(&text), 0, nullptr);
  std::string result = utf8(std::wstring(text == nullptr ? L"" : text, size));
  LocalFree(text);
  while (!result.empty() && (result.back() <= ' ' || result.back() == '.')) result.pop_back();
  return result.empty() ? "error " + std::to_string(code) : result;
}

}  // namespace sparse_experts::platform
