// The backends that this build knows: a row each, linked in or a shared library beside this one that
// is opened at first use. Callable from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "abi/backend.h"

namespace sparse_experts::engine {

struct BackendRow {
  const char* name;              // in device ids, and SeBackend.name
  const char* title;             // in messages
  bool is_numbered;              // device ids: 'cuda:0', 'cuda:1'; a backend of one device: 'cpu'
  int32_t priority;              // 'auto' takes the usable device of the highest
  SeBackendEntry linked;         // null: a library
  const char* library;           // stem of its file, in the directory of this library
  const char* library_variable;  // environment variable that names another file
};

struct Backend {
  const BackendRow* row;
  const SeBackend* table;  // null: it is not here
  std::string reason;      // why not
};

// All of them, the highest priority first. Opens what is not open yet; a library once opened stays
// open. A library must export se_backend_entry and have this build's abi_version and table size.
std::vector<Backend> backends();
// One by name. Null row: no backend is named so.
Backend find_backend(const std::string& name);

// One more backend, for the rest of the process: a program that links one of its own, and tests.
// The row must stay.
void add_backend(const BackendRow* row);

// A device's backend and its index there, from 'cpu', 'cuda' (the first) or 'cuda:N'. Throws
// FailureException.
std::pair<Backend, int32_t> parse_device_id(const std::string& id);
std::string device_id(const BackendRow& row, int32_t index);

}  // namespace sparse_experts::engine
