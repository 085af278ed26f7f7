#define DOCTEST_CONFIG_IMPLEMENT
// Tests let sanitizers and the emulator say what a fatal signal means.
#define DOCTEST_CONFIG_NO_POSIX_SIGNALS
#include "cpp/runner.h"

#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace test_runner {
namespace {

struct Totals {
  int passed = 0;
  int failed = 0;
  int cases = 0;
};

// doctest makes its listeners itself, for each run.
Totals totals;
Hooks hooks;
std::string round_name;
// Where a query of cases puts their suites and names; null: a query of suites, which are printed.
std::vector<std::pair<std::string, std::string>>* queried = nullptr;

// Counts, calls the hooks, and names the round of a failure, which the console reporter prints.
class Listener : public doctest::IReporter {
 public:
  explicit Listener(const doctest::ContextOptions&) {}
  void report_query(const doctest::QueryData& data) override {
    for (unsigned i = 0; i < data.num_data; ++i) {
      const auto* found = data.data[i];
      if (queried != nullptr) {
        queried->emplace_back(found->m_test_suite, found->m_name);
      } else {
        std::printf("%s\n", found->m_test_suite);
      }
    }
  }
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_start(const doctest::TestCaseData& test_case) override {
    case_ = &test_case;
    ++totals.cases;
    if (hooks.before_case) hooks.before_case();
  }
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    totals.passed += stats.numAssertsCurrentTest - stats.numAssertsFailedCurrentTest;
    totals.failed += stats.numAssertsFailedCurrentTest;
    if (stats.numAssertsCurrentTest == 0) fail("the case checks nothing");
    const std::string left = hooks.after_case ? hooks.after_case() : "";
    if (!left.empty()) fail(left);
  }
  void test_case_exception(const doctest::TestCaseException& exception) override {
    fail(exception.error_string.c_str());
  }
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData& data) override {
    if (data.m_failed) name_round();
  }
  void log_message(const doctest::MessageData& data) override {
    if (data.m_severity != doctest::assertType::is_warn) name_round();
  }
  void test_case_skipped(const doctest::TestCaseData&) override {}

 private:
  static void name_round() { std::printf("\nin round %s:\n", round_name.c_str()); }

  void fail(const std::string& why) {
    ++totals.failed;
    std::printf("FAILED in round %s: %s: %s: %s\n", round_name.c_str(), case_->m_test_suite,
                case_->m_name, why.c_str());
  }

  const doctest::TestCaseData* case_ = nullptr;
};

DOCTEST_REGISTER_LISTENER("counts", 1, Listener);

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ",") + name;
  return out;
}

// FNV-1a. By name and not by position, so that a new case does not move the others.
unsigned hash(const std::string& text) {
  unsigned value = 0x811c9dc5U;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x01000193U;
  return value;
}

// As one pattern of a list: commas and backslashes separate nothing.
std::string escaped(const std::string& name) {
  std::string out;
  for (const char c : name) {
    if (c == ',' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

// Reads "I/N", 1 <= I <= N; false for anything else.
bool parse_shard(const char* text, unsigned* shard, unsigned* num_shards) {
  char end = 0;
  return std::sscanf(text, "%u/%u%c", shard, num_shards, &end) == 2 && *shard >= 1 &&
         *shard <= *num_shards;
}

}  // namespace

Runner::Runner(int* argc, char** argv, Hooks all_hooks) : doctest_arguments_{argv[0]} {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  // The backends' debug contract: some cases are about it.
  setenv("SPARSE_EXPERTS_CHECK", "1", 0);
  hooks = std::move(all_hooks);
  int kept = 1;
  for (int i = 1; i < *argc; ++i) {
    if (std::strcmp(argv[i], "--list") == 0) {
      is_listing_ = true;
    } else if (std::strcmp(argv[i], "--filter") == 0 && i + 1 < *argc) {
      filter_ = argv[++i];
    } else if (std::strcmp(argv[i], "--shard") == 0 && i + 1 < *argc) {
      if (!parse_shard(argv[++i], &shard_, &num_shards_)) {
        std::fprintf(stderr, "--shard takes I/N, received '%s'\n", argv[i]);
        std::exit(2);
      }
    } else if (std::strncmp(argv[i], "--dt-", 5) == 0) {
      doctest_arguments_.push_back(argv[i]);
    } else {
      argv[kept++] = argv[i];
    }
  }
  *argc = kept;
}

Runner::~Runner() { hooks = {}; }

int Runner::list() { return query("--dt-list-test-suites", {}); }

int Runner::query(const char* what, const std::vector<std::string>& suites) const {
  // As flags of a command line: setOption("list-...", true) would run the cases.
  const std::vector<const char*> arguments{doctest_arguments_[0], what, "--dt-quiet"};
  doctest::Context context;
  context.applyCommandLine(static_cast<int>(arguments.size()), arguments.data());
  if (!suites.empty()) context.addFilter("test-suite", joined(suites).c_str());
  return context.run();
}

void Runner::run(const std::string& round, const std::vector<std::string>& except) {
  run(round, {}, except);
}

void Runner::run_suite(const std::string& round, const std::string& suite) {
  if (suite.find(filter_) != std::string::npos) run(round, {suite}, {});
}

void Runner::run(const std::string& round, const std::vector<std::string>& only,
                 const std::vector<std::string>& except) {
  round_name = round;
  const Totals before = totals;
  // doctest has one context at a time.
  const std::string cases = shard_ == 0 ? "" : cases_of_shard(only);
  doctest::Context context;
  context.setOption("minimal", true);
  context.setOption("no-intro", true);
  context.setOption("no-version", true);
  context.applyCommandLine(static_cast<int>(doctest_arguments_.size()), doctest_arguments_.data());
  if (!only.empty()) {
    context.addFilter("test-suite", joined(only).c_str());
  } else if (!filter_.empty()) {
    context.addFilter("test-suite", ("*" + filter_ + "*").c_str());
  }
  if (!except.empty()) context.addFilter("test-suite-exclude", joined(except).c_str());
  if (!cases.empty()) context.addFilter("test-case", cases.c_str());
  if (shard_ == 0 || !cases.empty()) context.run();
  std::printf("%-12s %d passed, %d failed\n", round.c_str(), totals.passed - before.passed,
              totals.failed - before.failed);
}

std::string Runner::cases_of_shard(const std::vector<std::string>& only) const {
  std::vector<std::pair<std::string, std::string>> all;
  queried = &all;
  query("--dt-list-test-cases", only);
  queried = nullptr;
  std::vector<std::string> chosen;
  for (const auto& [suite, name] : all) {
    // A case is in another part in each round, so that parts take about the same time.
    std::string key = suite;
    key.append(name).append(round_name);
    if (hash(key) % num_shards_ == shard_ - 1) chosen.push_back(escaped(name));
  }
  return joined(chosen);
}

int Runner::finish() {
  if (totals.cases == 0) {
    ++totals.failed;
    std::printf("FAILED: no suite matches '%s'\n", filter_.c_str());
  }
  std::printf("%d passed, %d failed\n", totals.passed, totals.failed);
  return totals.failed == 0 ? 0 : 1;
}

}  // namespace test_runner
