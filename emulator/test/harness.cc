#include "harness.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

namespace {

constexpr const char* kProgram = "/proc/self/exe";

}  // namespace

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
  return CHECK_MESSAGE(outcome.clean, what, ": ",
                       (outcome.clean ? std::string() : simt::describe(outcome.defect)));
}

bool expect_defect(const Outcome& outcome, std::initializer_list<simt::DefectKind> kinds,
                   const std::string& what, const std::string& text) {
  if (!CHECK_MESSAGE(!outcome.clean, what, ": no defect found")) return false;
  const std::string found = simt::describe(outcome.defect);
  bool right = false;
  for (const simt::DefectKind kind : kinds) right = right || outcome.defect.kind == kind;
  right = CHECK_MESSAGE(right, what, ": other defect: ", found) && right;
  return CHECK_MESSAGE(found.find(text) != std::string::npos, what, ": no \"", text,
                       "\" in: ", found) &&
         right;
}

void expect_death(const char* child, const std::string& text) {
  int ends[2];
  if (!CHECK_MESSAGE(pipe(ends) == 0, "pipe")) return;
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
    execl(kProgram, kProgram, "--child", child, static_cast<char*>(nullptr));
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
  CHECK_MESSAGE((!WIFEXITED(status) || WEXITSTATUS(status) != 0), what, " lived");
  CHECK_MESSAGE(output.find(text) != std::string::npos, what, ": no \"", text, "\" in: ", output);
}
