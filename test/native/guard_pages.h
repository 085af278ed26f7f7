// Memory that ends, or begins, where a page lies that nobody may touch; and code that is run to see whether
// it does.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <string>
#include <vector>

namespace native_test {

// Which end of the bytes touches a page that is not accessible. Both sides have one, pages apart.
enum class Edge { kBeginning, kEnd };
constexpr Edge kEdges[] = {Edge::kBeginning, Edge::kEnd};

class GuardedBytes {
 public:
  // A copy of `bytes` bytes, or bytes of 0xff where `from` is NULL.
  GuardedBytes(std::string name, const void* from, size_t bytes, Edge edge);
  ~GuardedBytes();
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;

  char* data() const { return data_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }
  // From here on a write is a breach too.
  void make_read_only();
  // Where an address lies to them, in words; empty where it is in none of their pages.
  std::string place_of(const void* address) const;

 private:
  std::string name_;
  char* pages_;  // the first one is not accessible, nor is the last
  size_t num_page_bytes_;
  char* data_;
  size_t bytes_;
};

// Runs `code` and says what it touched that it must not, in words; empty: nothing. What `code` had not
// finished by then stays so.
std::string breach_of(const std::vector<const GuardedBytes*>& operands,
                      const std::function<void()>& code);

// Operands of one call, and the call.
class Operands {
 public:
  explicit Operands(Edge edge) : edge_(edge) {}

  // Read only. NULL where there are no bytes: an operand that is absent.
  const char* input(const std::string& name, const void* from, size_t bytes);
  template <typename T>
  const T* input(const std::string& name, const std::vector<T>& values) {
    return reinterpret_cast<const T*>(input(name, values.data(), values.size() * sizeof(T)));
  }
  char* output(const std::string& name, size_t bytes);
  float* outputs(size_t count) {
    return reinterpret_cast<float*>(output("outputs", count * sizeof(float)));
  }
  // Runs it; one assertion that it touched nothing else. Returns whether.
  bool check(const std::string& what, const std::function<void()>& code) const;

 private:
  Edge edge_;
  std::deque<GuardedBytes> all_;
};

}  // namespace native_test
