// What every backend refuses of rows of codes (SeBackend.matrix_write).
#pragma once

#include <doctest/doctest.h>

#include "abi/backend.h"

namespace native_test {

// `complete`: rows of a format with scales and offsets, and scales of both. write(rows) → SeCode.
template <typename Write>
void check_incomplete_rows(const SeMatrixRows& complete, const Write& write) {
  CHECK(write(complete) == SE_OK);
  SeMatrixRows rows = complete;
  rows.scales = nullptr;
  CHECK(write(rows) == SE_INVALID_ARGUMENT);
  rows = complete;
  rows.offsets = nullptr;
  CHECK(write(rows) == SE_INVALID_ARGUMENT);
  rows = complete;
  rows.super_scales = nullptr;
  CHECK(write(rows) == SE_INVALID_ARGUMENT);
  rows = complete;
  rows.super_offsets = nullptr;
  CHECK(write(rows) == SE_INVALID_ARGUMENT);
  // Blocks of columns are multiples of 16.
  SeMatrixFormat ragged = *complete.format;
  ragged.block_cols = 24;
  rows = complete;
  rows.format = &ragged;
  CHECK(write(rows) == SE_INVALID_ARGUMENT);
}

}  // namespace native_test
