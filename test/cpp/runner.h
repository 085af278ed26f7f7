// Runs the doctest cases of a program, in one round or several (a round for each instruction set,
// or each order of threads), and counts over all of them.
//
//   Runner runner(&argc, argv);          // takes its own options: --filter TEXT, --shard I/N, --list
//   if (runner.is_listing()) return runner.list();
//   runner.run("avx2", {"machine"});     // every case but those of the suite "machine"
//   return runner.finish();              // prints "N passed, M failed"
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace test_runner {

struct Hooks {
  // Runs before each test case.
  std::function<void()> before_case;
  // Runs after each test case; what it returns, if anything, is a failure.
  std::function<std::string()> after_case;
};

class Runner {
 public:
  // Removes the options that it knows from argv: --filter TEXT runs the suites whose name has TEXT
  // in it; --shard I/N runs part I of N, in which every round has other cases; --list names the
  // suites; those that begin with --dt- are doctest's own.
  Runner(int* argc, char** argv, Hooks hooks = {});
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  bool is_listing() const { return is_listing_; }
  // Prints the name of every suite; returns the exit status.
  int list();
  // Runs the selected cases once, without those of the suites in `except`.
  void run(const std::string& round, const std::vector<std::string>& except = {});
  // Runs one suite, if it is selected.
  void run_suite(const std::string& round, const std::string& suite);
  // Prints the sums over all rounds as the last line; returns the exit status: 0 if nothing failed.
  int finish();

 private:
  void run(const std::string& round, const std::vector<std::string>& only,
           const std::vector<std::string>& except);

  // Asks doctest what there is, in these suites or in all.
  int query(const char* what, const std::vector<std::string>& suites) const;
  // The cases of this part as a filter of doctest; empty where there are none.
  std::string cases_of_shard(const std::vector<std::string>& only) const;

  std::string filter_;
  unsigned shard_ = 0;  // from 1; 0: all cases
  unsigned num_shards_ = 0;
  bool is_listing_ = false;
  std::vector<const char*> doctest_arguments_;
};

}  // namespace test_runner
