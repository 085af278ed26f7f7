// Counted assertions.
#pragma once

#include <string>

// Counts, and prints what failed. Returns `passed`.
bool check(bool passed, const std::string& what);
