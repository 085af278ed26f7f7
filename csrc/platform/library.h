// Shared libraries that are opened at run time.
#pragma once

#include <string>

namespace sparse_experts::platform {

// The file of a library as this system names it: "x" → "libx.so", "x.dll".
std::string library_file(const std::string& stem);
// Path of a file beside the library or program that this code is in.
std::string sibling_path(const std::string& file);
bool file_exists(const std::string& path);

// Null on failure, with the reason in *problem. A path without a folder is looked for by the system.
void* open_library(const std::string& path, std::string* problem);
void* library_symbol(void* library, const char* name);  // null: it has none
void close_library(void* library);

}  // namespace sparse_experts::platform
