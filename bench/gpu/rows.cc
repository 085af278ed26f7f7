// cuda_rows --shape NAME:H:I:E:K:SHARED [--tokens 1,64,4096] [--rows N]
//
// Rows of large layers in bf16 against the block in double precision, by the ids and weights that the
// device found; and whether a row alone has the bits that it has among others. One JSON object per
// line. Status 1 where a row lies beyond the bound of bf16 (docs/numerics.md), or a row of a layer with
// batch_invariant has other bits alone; what a layer without it does is said and not judged. Status 3:
// no CUDA device.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "abi/backend.h"
#include "bench_case.h"
#include "bench_layer.h"
#include "cases.h"
#include "cuda/runtime/device.h"

extern "C" const SeBackend* se_backend_entry(void);

namespace sparse_experts::bench {
namespace {

double value_of(uint16_t bits) {
  const uint32_t word = static_cast<uint32_t>(bits) << 16;
  float value = 0;
  std::memcpy(&value, &word, sizeof value);
  return static_cast<double>(value);
}

// An expert's matrix on the host.
std::vector<uint16_t> download(const SeMatrixTable& table, int64_t expert) {
  const void* matrix = nullptr;
  must(cudaMemcpy(&matrix, table.data + expert, sizeof matrix, cudaMemcpyDeviceToHost), "table");
  std::vector<uint16_t> values(static_cast<size_t>(table.rows * table.cols));
  must(cudaMemcpy(values.data(), matrix, values.size() * 2, cudaMemcpyDeviceToHost), "matrix");
  return values;
}

std::vector<double> product(const std::vector<uint16_t>& matrix, const std::vector<double>& x) {
  std::vector<double> out(matrix.size() / x.size());
  for (size_t row = 0; row < out.size(); ++row) {
    const uint16_t* weights = matrix.data() + row * x.size();
    double sum = 0;
    for (size_t k = 0; k < x.size(); ++k) sum += value_of(weights[k]) * x[k];
    out[row] = sum;
  }
  return out;
}

void add_expert(const SeExperts& experts, int64_t expert, double weight,
                const std::vector<double>& x, std::vector<double>* out) {
  std::vector<double> inner = product(download(experts.gate, expert), x);
  const std::vector<double> up = product(download(experts.up, expert), x);
  for (size_t i = 0; i < inner.size(); ++i) inner[i] = inner[i] / (1 + std::exp(-inner[i])) * up[i];
  const std::vector<double> result = product(download(experts.down, expert), inner);
  for (size_t i = 0; i < result.size(); ++i) (*out)[i] += weight * result[i];
}

// ||out - expected|| / ||expected||.
double relative_error(const SeMoeLayer& layer, const BenchCase::Row& row) {
  std::vector<double> x;
  for (const uint16_t bits : row.hidden) x.push_back(value_of(bits));
  std::vector<double> expected(row.output.size(), 0.0);
  for (size_t slot = 0; slot < row.ids.size(); ++slot)
    add_expert(layer.experts, row.ids[slot], static_cast<double>(row.weights[slot]), x, &expected);
  if (layer.shared.num_experts > 0) add_expert(layer.shared, 0, 1.0, x, &expected);
  double distance = 0;
  double norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = value_of(row.output[i]) - expected[i];
    distance += difference * difference;
    norm += expected[i] * expected[i];
  }
  return std::sqrt(distance / norm);
}

struct Options {
  Shape shape;
  std::vector<int64_t> tokens = {1, 64, 4096};
  int64_t rows = 3;
};

class Check {
 public:
  Check(SeDevice& device, const Options& options)
      : device_(device), options_(options), weights_(options.shape, 1, 0) {}

  bool run() {
    const double bound = native_test::layer_bound(SE_BF16) + native_test::output_rounding(SE_BF16);
    bool good = true;
    for (const int64_t num_tokens : options_.tokens) {
      const int64_t count = num_tokens < options_.rows ? num_tokens : options_.rows;
      BenchCase run = start(num_tokens, 0);
      run.run_once();
      for (int64_t i = 0; i < count; ++i) {
        const int64_t token = count > 1 ? i * (num_tokens - 1) / (count - 1) : 0;
        const double error = relative_error(weights_.layer(0), run.row(token));
        const bool within = error <= bound;  // no NaN is
        good = good && within;
        std::printf(
            "{\"shape\":\"%s\",\"tokens\":%lld,\"row\":%lld,\"relativeError\":%.3g,\"bound\":%.3g,"
            "\"ok\":%s}\n",
            options_.shape.name.c_str(), static_cast<long long>(num_tokens),
            static_cast<long long>(token), error, bound, within ? "true" : "false");
        std::fflush(stdout);
      }
      if (num_tokens == 1) continue;
      const bool invariant = is_same_alone(num_tokens, 1);
      good = good && invariant;
      std::printf(
          "{\"shape\":\"%s\",\"tokens\":%lld,\"rowAlone\":{\"batchInvariant\":%s,\"default\":%s},"
          "\"ok\":%s}\n",
          options_.shape.name.c_str(), static_cast<long long>(num_tokens),
          invariant ? "\"same bits\"" : "\"other bits\"",
          is_same_alone(num_tokens, 0) ? "\"same bits\"" : "\"other bits\"",
          invariant ? "true" : "false");
      std::fflush(stdout);
    }
    return good;
  }

 private:
  BenchCase start(int64_t num_tokens, int32_t batch_invariant) const {
    SeLayerOptions options{};
    options.batch_invariant = batch_invariant;
    return BenchCase(*se_backend_entry(), device_, options_.shape, weights_, num_tokens, options);
  }

  // The first rows of all calls are alike: their values are a function of their place.
  bool is_same_alone(int64_t num_tokens, int32_t batch_invariant) const {
    BenchCase alone = start(1, batch_invariant);
    BenchCase among = start(num_tokens, batch_invariant);
    alone.run_once();
    among.run_once();
    return alone.row(0).output == among.row(0).output;
  }

  SeDevice& device_;
  const Options& options_;
  const BenchLayer weights_;
};

bool parse(int argc, char** argv, Options* options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const std::string value = argv[i + 1];
    if (name == "--shape") {
      if (!parse_shape(value, &options->shape)) return false;
    } else if (name == "--tokens") {
      options->tokens = parse_numbers(value);
    } else if (name == "--rows") {
      options->rows = std::atoll(value.c_str());
    } else {
      return false;
    }
  }
  return argc % 2 == 1 && !options->shape.name.empty();
}

}  // namespace
}  // namespace sparse_experts::bench

int main(int argc, char** argv) {
  using namespace sparse_experts::bench;
  Options options;
  if (!parse(argc, argv, &options)) {
    std::fprintf(stderr,
                 "usage: cuda_rows --shape NAME:H:I:E:K:SHARED [--tokens 1,64] [--rows N]\n");
    return 2;
  }
  return Check(open_device(*se_backend_entry()), options).run() ? 0 : 1;
}
