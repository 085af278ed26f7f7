// Parts of the backend suite, each in a file of its own.
#pragma once

#include "abi/backend.h"

namespace native_test {

void test_backend_calls(SeDevice* device);  // replay, capacity, rows that are not finite, arguments
void test_backend_stages();                 // the stage ops, and what they refuse
void test_backend_failures();  // memory, planned and sticky failures, counters, threads

}  // namespace native_test
