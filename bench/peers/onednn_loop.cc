// The loop over experts in C++ over oneDNN's inner products, in f32: what a library does in the
// place of our inner matrix products, free to lay its weights out as it likes.
//
//   onednn_loop DIRECTORY HIDDEN INTERMEDIATE EXPERTS TOPK SHARED ROWS THREADS
//
// Speaks the protocol of torch_loop.py and reads the same files.

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <numeric>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

using dnnl::inner_product_forward;
using dnnl::memory;
using Floats = std::vector<float>;
using Tag = memory::format_tag;

dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

dnnl::stream& stream() {
  static dnnl::stream in_order(engine());
  return in_order;
}

memory::desc desc(int64_t rows, int64_t cols, Tag tag) {
  return {{rows, cols}, memory::data_type::f32, tag};
}

// `[rows, cols]` weights in the layout that oneDNN prefers for a batch of some rows per expert.
class Linear {
 public:
  Linear(float* data, int64_t rows, int64_t cols) : rows_(rows), cols_(cols) {
    constexpr int64_t kTypicalBatch = 32;
    const auto preferred = inner_product_forward::primitive_desc(
                               describe(kTypicalBatch, desc(rows, cols, Tag::any)), engine())
                               .weights_desc();
    memory plain(desc(rows, cols, Tag::ab), engine(), data);
    weights_ = memory(preferred, engine());
    dnnl::reorder(plain, weights_).execute(stream(), plain, weights_);
    stream().wait();
  }

  void run(const float* x, int64_t batch, float* out) {
    auto& primitive = primitives()[{batch, rows_, cols_}];
    if (!primitive) {
      primitive = inner_product_forward(
          inner_product_forward::primitive_desc(describe(batch, weights_.get_desc()), engine()));
    }
    const memory from(desc(batch, cols_, Tag::ab), engine(), const_cast<float*>(x));
    const memory to(desc(batch, rows_, Tag::ab), engine(), out);
    primitive.execute(stream(),
                      {{DNNL_ARG_SRC, from}, {DNNL_ARG_WEIGHTS, weights_}, {DNNL_ARG_DST, to}});
    stream().wait();
  }

 private:
  inner_product_forward::desc describe(int64_t batch, const memory::desc& weights) const {
    return {dnnl::prop_kind::forward_inference, desc(batch, cols_, Tag::ab), weights,
            desc(batch, rows_, Tag::ab)};
  }
  static std::map<std::vector<int64_t>, dnnl::primitive>& primitives() {
    static std::map<std::vector<int64_t>, dnnl::primitive> made;
    return made;
  }
  int64_t rows_;
  int64_t cols_;
  memory weights_;
};

Floats read(const std::string& file, size_t first, size_t count) {
  Floats values(count);
  std::ifstream in(file, std::ios::binary);
  in.seekg(static_cast<std::streamoff>(4 * first));
  in.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(4 * count));
  if (!in) {
    std::fprintf(stderr, "onednn_loop: %s is too short\n", file.c_str());
    std::exit(1);
  }
  return values;
}

// Gate rows then up rows in one product, then down.
struct Expert {
  Linear gate_up;
  Linear down;
  int64_t width;

  void run(const Floats& x, int64_t batch, int64_t hidden, Floats& out) {
    both_.resize(static_cast<size_t>(batch * 2 * width));
    active_.resize(static_cast<size_t>(batch * width));
    out.resize(static_cast<size_t>(batch * hidden));
    gate_up.run(x.data(), batch, both_.data());
#pragma omp parallel for
    for (int64_t row = 0; row < batch; row++) {
      const float* gate = both_.data() + row * 2 * width;
      const float* up = gate + width;
      float* to = active_.data() + row * width;
      for (int64_t i = 0; i < width; i++) to[i] = gate[i] / (1.0F + std::exp(-gate[i])) * up[i];
    }
    down.run(active_.data(), batch, out.data());
  }

 private:
  static inline Floats both_;
  static inline Floats active_;
};

class Layer {
 public:
  Layer(const std::string& directory, int64_t hidden, int64_t width, int64_t experts, int64_t top_k,
        int64_t shared)
      : hidden_(hidden), top_k_(top_k), num_experts_(experts) {
    const auto matrix = static_cast<size_t>(width * hidden);
    for (int64_t e = 0; e < experts; e++) {
      const auto at = static_cast<size_t>(e) * matrix;
      // Stored gate 0, up 0, gate 1, up 1 …
      const Floats stored = read(directory + "/fc1.f32", 2 * at, 2 * matrix);
      Floats gate_up(2 * matrix);
      for (int64_t row = 0; row < width; row++) {
        std::copy_n(stored.data() + 2 * row * hidden, hidden, gate_up.data() + row * hidden);
        std::copy_n(stored.data() + (2 * row + 1) * hidden, hidden,
                    gate_up.data() + (width + row) * hidden);
      }
      Floats down = read(directory + "/fc2.f32", at, matrix);
      experts_.push_back(make(gate_up, down, width));
    }
    if (shared > 0) {
      const auto size = static_cast<size_t>(shared * hidden);
      Floats gate_up = read(directory + "/shared.f32", 0, 2 * size);
      Floats down = read(directory + "/shared.f32", 2 * size, size);
      shared_.push_back(make(gate_up, down, shared));
    }
    Floats router = read(directory + "/router.f32", 0, static_cast<size_t>(experts * hidden));
    router_.emplace_back(router.data(), experts, hidden);
  }

  void forward(const float* x, int64_t tokens, Floats& out) {
    out.assign(static_cast<size_t>(tokens * hidden_), 0.0F);
    logits_.resize(static_cast<size_t>(tokens * num_experts_));
    router_[0].run(x, tokens, logits_.data());
    route(tokens);
    for (size_t e = 0; e < experts_.size(); e++) {
      const auto& slots = chosen_[e];
      if (slots.empty()) continue;
      rows_.resize(slots.size() * static_cast<size_t>(hidden_));
      for (size_t i = 0; i < slots.size(); i++)
        std::copy_n(x + slots[i].first * hidden_, hidden_,
                    rows_.data() + i * static_cast<size_t>(hidden_));
      experts_[e].run(rows_, static_cast<int64_t>(slots.size()), hidden_, result_);
      for (size_t i = 0; i < slots.size(); i++) add(slots[i].first, i, slots[i].second, out);
    }
    for (auto& shared : shared_) {
      rows_.assign(x, x + tokens * hidden_);
      shared.run(rows_, tokens, hidden_, result_);
      for (int64_t token = 0; token < tokens; token++)
        add(token, static_cast<size_t>(token), 1.0F, out);
    }
  }

 private:
  Expert make(Floats& gate_up, Floats& down, int64_t width) const {
    return {Linear(gate_up.data(), 2 * width, hidden_), Linear(down.data(), hidden_, width), width};
  }

  void add(int64_t token, size_t row, float weight, Floats& out) const {
    const float* from = result_.data() + row * static_cast<size_t>(hidden_);
    float* to = out.data() + token * hidden_;
    for (int64_t h = 0; h < hidden_; h++) to[h] += weight * from[h];
  }

  // Softmax, the best k, renormalised: per expert its tokens and their weights.
  void route(int64_t tokens) {
    chosen_.assign(experts_.size(), {});
    std::vector<int64_t> order(experts_.size());
    for (int64_t token = 0; token < tokens; token++) {
      const float* row = logits_.data() + token * num_experts_;
      std::iota(order.begin(), order.end(), 0);
      std::partial_sort(order.begin(), order.begin() + top_k_, order.end(),
                        [row](int64_t a, int64_t b) { return row[a] > row[b]; });
      float sum = 0;
      for (int64_t k = 0; k < top_k_; k++) sum += std::exp(row[order[k]] - row[order[0]]);
      for (int64_t k = 0; k < top_k_; k++)
        chosen_[order[k]].emplace_back(token, std::exp(row[order[k]] - row[order[0]]) / sum);
    }
  }

  int64_t hidden_;
  int64_t top_k_;
  int64_t num_experts_;
  std::vector<Expert> experts_;
  std::vector<Expert> shared_;
  std::vector<Linear> router_;
  std::vector<std::vector<std::pair<int64_t, float>>> chosen_;
  Floats logits_;
  Floats rows_;
  Floats result_;
};

// The number behind `"name":`, or `otherwise`.
int64_t number_in(const std::string& line, const char* name, int64_t otherwise) {
  const size_t at = line.find('"' + std::string(name) + "\":");
  return at == std::string::npos
             ? otherwise
             : std::strtoll(line.c_str() + at + std::strlen(name) + 3, nullptr, 10);
}

std::string text_in(const std::string& line, const char* name) {
  const std::string key = '"' + std::string(name) + "\":\"";
  const size_t at = line.find(key);
  if (at == std::string::npos) return {};
  const size_t from = at + key.size();
  return line.substr(from, line.find('"', from) - from);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 9) {
    std::fprintf(stderr, "onednn_loop: eight arguments\n");
    return 2;
  }
  const std::string directory = argv[1];
  int64_t sizes[7];
  for (int i = 0; i < 7; i++) sizes[i] = std::strtoll(argv[i + 2], nullptr, 10);
  const auto [hidden, width, experts, top_k, shared, rows, threads] = sizes;
  omp_set_num_threads(static_cast<int>(threads));
  Layer layer(directory, hidden, width, experts, top_k, shared);
  const Floats inputs = read(directory + "/hidden.f32", 0, static_cast<size_t>(rows * hidden));
  Floats out;
  std::cout << "{}" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    const int64_t tokens = number_in(line, "tokens", 1);
    const int64_t first = number_in(line, "first", 0);
    const int64_t calls = number_in(line, "calls", 0);
    std::string times;
    for (int64_t call = first; call < first + calls; call++) {
      const float* x = inputs.data() + call * tokens % (rows - tokens + 1) * hidden;
      const auto began = std::chrono::steady_clock::now();
      layer.forward(x, tokens, out);
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - began;
      times += (times.empty() ? "" : ",") + std::to_string(took.count());
    }
    const std::string file = text_in(line, "output");
    if (!file.empty()) {
      layer.forward(inputs.data(), tokens, out);
      std::ofstream(file, std::ios::binary)
          .write(reinterpret_cast<const char*>(out.data()),
                 static_cast<std::streamsize>(4 * out.size()));
    }
    std::cout << "{\"ms\":[" << times << "]}" << std::endl;
  }
}
