// The emulator's self-tests. Arguments: names of groups to run (all by default), or --child <name>
// for a planted defect that ends the process. Last line: "N passed, M failed".
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "harness.h"

void test_copies();
void test_counters();
void test_defects();
void test_gemm();
void test_intrinsics();
void test_kernels();
void test_layouts();
void test_memory();
void test_race();
void test_runtime_capture();
void test_runtime_failures();
void test_runtime_memory();
void test_runtime_streams();
void child_global_read();
void child_global_write();
void child_array_end();
void child_dynamic_end();

namespace {

int passed_count = 0;
int failed_count = 0;
const char* program = "";

struct Entry {
  const char* name;
  void (*run)();
};
constexpr Entry kGroups[] = {
    {"intrinsics", test_intrinsics},
    {"layouts", test_layouts},
    {"kernels", test_kernels},
    {"gemm", test_gemm},
    {"copies", test_copies},
    {"defects", test_defects},
    {"memory", test_memory},
    {"counters", test_counters},
    {"race", test_race},
    {"runtime_memory", test_runtime_memory},
    {"runtime_streams", test_runtime_streams},
    {"runtime_capture", test_runtime_capture},
    {"runtime_failures", test_runtime_failures},
};
constexpr Entry kChildren[] = {
    {"global_read", child_global_read},
    {"global_write", child_global_write},
    {"array_end", child_array_end},
    {"dynamic_end", child_dynamic_end},
};

}  // namespace

bool check(bool passed, const std::string& what) {
  if (passed) {
    ++passed_count;
  } else {
    ++failed_count;
    std::printf("FAILED: %s\n", what.c_str());
  }
  return passed;
}

const std::vector<Setting>& all_settings() {
  static const std::vector<Setting> settings = {
      {simt::Schedule::kForward, 1, "forward"}, {simt::Schedule::kReverse, 1, "reverse"},
      {simt::Schedule::kRandom, 1, "random 1"}, {simt::Schedule::kRandom, 2, "random 2"},
      {simt::Schedule::kSkewed, 1, "skewed 1"}, {simt::Schedule::kSkewed, 2, "skewed 2"},
      {simt::Schedule::kSkewed, 3, "skewed 3"},
  };
  return settings;
}

Scheduled::Scheduled(simt::Schedule schedule, uint64_t seed) : before_(simt::options()) {
  simt::Options options;
  options.schedule = schedule;
  options.seed = seed;
  simt::set_options(options);
}
Scheduled::Scheduled(const simt::Options& options) : before_(simt::options()) {
  simt::set_options(options);
}
Scheduled::~Scheduled() { simt::set_options(before_); }

bool expect_clean(const Outcome& outcome, const std::string& what) {
  return check(outcome.clean, what + ": " + (outcome.clean ? "" : simt::describe(outcome.defect)));
}

bool expect_defect(const Outcome& outcome, std::initializer_list<simt::DefectKind> kinds,
                   const std::string& what, const std::string& text) {
  if (!check(!outcome.clean, what + ": no defect found")) return false;
  bool right = false;
  for (const simt::DefectKind kind : kinds) right = right || outcome.defect.kind == kind;
  right = check(right, what + ": other defect: " + simt::describe(outcome.defect)) && right;
  return check(simt::describe(outcome.defect).find(text) != std::string::npos,
               what + ": no \"" + text + "\" in: " + simt::describe(outcome.defect)) &&
         right;
}

void expect_death(const char* child, const std::string& text) {
  int ends[2];
  if (!check(pipe(ends) == 0, "pipe")) return;
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(ends[1], 1);
    dup2(ends[1], 2);
    close(ends[0]);
    // The sanitizer's report belongs in the pipe and its end is wanted, whatever this process was
    // told.
    ::unsetenv("ASAN_OPTIONS");
    ::unsetenv("LSAN_OPTIONS");
    ::unsetenv("UBSAN_OPTIONS");
    execl(program, program, "--child", child, static_cast<char*>(nullptr));
    _exit(0);
  }
  close(ends[1]);
  std::string output;
  char part[4096];
  for (ssize_t got; (got = read(ends[0], part, sizeof part)) > 0;) output.append(part, got);
  close(ends[0]);
  int status = 0;
  waitpid(pid, &status, 0);
  const std::string what = std::string("child ") + child;
  check(!WIFEXITED(status) || WEXITSTATUS(status) != 0, what + " lived");
  check(output.find(text) != std::string::npos, what + ": no \"" + text + "\" in: " + output);
}

int main(int count, char** arguments) {
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  program = "/proc/self/exe";
  if (count == 3 && std::string(arguments[1]) == "--child") {
    for (const Entry& entry : kChildren) {
      if (std::string(arguments[2]) == entry.name) entry.run();
    }
    return 0;  // it lived
  }
  for (const Entry& entry : kGroups) {
    bool wanted = count == 1;
    for (int i = 1; i < count; ++i) wanted = wanted || std::string(arguments[i]) == entry.name;
    if (!wanted) continue;
    const int before = failed_count;
    entry.run();
    std::printf("%s: %s\n", entry.name, failed_count == before ? "ok" : "FAILED");
  }
  std::printf("%d passed, %d failed\n", passed_count, failed_count);
  return failed_count == 0 && passed_count > 0 ? 0 : 1;
}
