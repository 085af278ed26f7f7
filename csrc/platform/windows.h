// What the Windows files of this directory share: texts and errors of the system as UTF-8.
#pragma once

#ifndef NOMINMAX
#define NOMINMAX
#endif
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

#include <string>

namespace sparse_experts::platform {

std::wstring wide(const std::string& text);
std::string utf8(const std::wstring& text);
// A path for the system's functions: one that is too long for them becomes a full one with the
// prefix that lifts the limit.
std::wstring wide_path(const std::string& path);
// What the system says of an error code, without the line's end.
std::string error_text(DWORD code);

}  // namespace sparse_experts::platform
