#include "native/guard_pages.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "cpp/check.h"

namespace native_test {
namespace {

size_t page_bytes() {
  static const auto bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

void set_access(char* pages, size_t bytes, int access) {
  if (mprotect(pages, bytes, access) != 0) std::abort();
}

sigjmp_buf before_code;
const void* volatile touched = nullptr;

extern "C" void leave_code(int, siginfo_t* info, void*) {
  touched = info->si_addr;
  siglongjmp(before_code, 1);
}

// Systems differ in which of the two a page that is not accessible raises.
constexpr int kFaults[] = {SIGSEGV, SIGBUS};

// Whether it ran to its end.
bool runs(const std::function<void()>& code) {
  if (sigsetjmp(before_code, 1) != 0) return false;
  code();
  return true;
}

}  // namespace

GuardedBytes::GuardedBytes(std::string name, const void* from, size_t bytes, Edge edge)
    : name_(std::move(name)), bytes_(bytes) {
  const size_t page = page_bytes();
  const size_t inner = (bytes + page - 1) / page * page;
  num_page_bytes_ = inner + 2 * page;
  void* mapped = mmap(nullptr, num_page_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) std::abort();
  pages_ = static_cast<char*>(mapped);
  if (inner > 0) set_access(pages_ + page, inner, PROT_READ | PROT_WRITE);
  data_ = pages_ + page + (edge == Edge::kEnd ? inner - bytes : 0);
  if (bytes == 0) return;
  if (from == nullptr) {
    std::memset(data_, 0xff, bytes);
  } else {
    std::memcpy(data_, from, bytes);
  }
}

GuardedBytes::~GuardedBytes() { munmap(pages_, num_page_bytes_); }

void GuardedBytes::make_read_only() {
  const size_t page = page_bytes();
  if (num_page_bytes_ > 2 * page) set_access(pages_ + page, num_page_bytes_ - 2 * page, PROT_READ);
}

std::string GuardedBytes::place_of(const void* address) const {
  const char* at = static_cast<const char*>(address);
  if (at < pages_ || at >= pages_ + num_page_bytes_) return "";
  if (at < data_) return "byte " + std::to_string(data_ - at) + " before " + name_;
  const char* end = data_ + bytes_;
  if (at >= end) return "byte " + std::to_string(at - end) + " behind " + name_;
  return "a write to " + name_;
}

std::string breach_of(const std::vector<const GuardedBytes*>& operands,
                      const std::function<void()>& code) {
  constexpr int kNumFaults = sizeof kFaults / sizeof kFaults[0];
  struct sigaction ours = {};
  ours.sa_sigaction = leave_code;
  ours.sa_flags = SA_SIGINFO;
  sigemptyset(&ours.sa_mask);
  struct sigaction others[kNumFaults];
  for (int i = 0; i < kNumFaults; ++i) sigaction(kFaults[i], &ours, &others[i]);
  const bool is_whole = runs(code);
  for (int i = 0; i < kNumFaults; ++i) sigaction(kFaults[i], &others[i], nullptr);
  if (is_whole) return "";
  for (const GuardedBytes* operand : operands) {
    std::string place = operand->place_of(touched);
    if (!place.empty()) return place;
  }
  return "memory of no operand";
}

const char* Operands::input(const std::string& name, const void* from, size_t bytes) {
  if (bytes == 0) return nullptr;
  all_.emplace_back(name, from, bytes, edge_).make_read_only();
  return all_.back().data();
}

char* Operands::output(const std::string& name, size_t bytes) {
  return all_.emplace_back(name, nullptr, bytes, edge_).data();
}

bool Operands::check(const std::string& what, const std::function<void()>& code) const {
  std::vector<const GuardedBytes*> guarded;
  for (const GuardedBytes& one : all_) guarded.push_back(&one);
  const std::string breach = breach_of(guarded, code);
  const std::string edge = edge_ == Edge::kEnd ? "page at the end" : "page at the beginning";
  return CHECK_MESSAGE(breach.empty(), what, ", ", edge, ": ", breach);
}

}  // namespace native_test
