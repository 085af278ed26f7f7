// Whether a device waits between two turns: until when, for how many, and that the better way is found.
#include "engine/company.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

using sparse_experts::engine::Company;
using std::chrono::microseconds;
using std::chrono::milliseconds;

namespace {

// Between two clients' answers of a turn.
constexpr microseconds kBetweenAnswers{50};

// Clients that ask again some time after they were answered, on a clock of their own.
class Clients {
 public:
  Clients(size_t count, microseconds trip)
      : trip_(trip), asks_(count, Company::Clock::time_point{}) {}

  // A turn of all that have asked, by the rules of `company`, which takes as long as `time` says of its calls.
  // Returns its calls.
  template <typename Time>
  size_t run_turn(Company& company, Time&& time) {
    std::sort(asks_.begin(), asks_.end());
    now_ = std::max(now_, asks_.front());
    const auto have_asked = [&] {
      return static_cast<size_t>(std::upper_bound(asks_.begin(), asks_.end(), now_) -
                                 asks_.begin());
    };
    while (have_asked() < std::min(company.expected(), asks_.size()) &&
           now_ < company.patience_ends())
      now_ = std::min(asks_[have_asked()], company.patience_ends());
    const size_t calls = have_asked();
    company.turn_begins(now_);
    now_ += time(calls);
    for (size_t i = 0; i < calls; ++i)
      asks_[i] = now_ + trip_ + static_cast<int>(i) * kBetweenAnswers;
    std::sort(asks_.begin(), asks_.end());
    company.turn_ends(now_, calls, have_asked());
    return calls;
  }

  // Calls of each of 400 turns.
  template <typename Time>
  std::vector<size_t> run(Company& company, Time&& time) {
    std::vector<size_t> turns(400);
    for (size_t& calls : turns) calls = run_turn(company, time);
    return turns;
  }

 private:
  const microseconds trip_;
  Company::Clock::time_point now_{std::chrono::hours(1)};
  std::vector<Company::Clock::time_point> asks_;
};

// How many of the last turns are of all clients.
size_t whole_turns(const std::vector<size_t>& turns, size_t clients) {
  return static_cast<size_t>(std::count(turns.end() - 100, turns.end(), clients));
}

}  // namespace

TEST_SUITE_BEGIN("company");

TEST_CASE(
    "those that were there are expected, for as long as the last turn took, and not for long") {
  Company company;
  CHECK(company.expected() == 0);
  Company::Clock::time_point now{std::chrono::hours(1)};
  company.turn_begins(now);
  now += milliseconds(2);
  company.turn_ends(now, 3, 4);
  CHECK(company.expected() == 7);
  CHECK(company.patience_ends() == now + milliseconds(2));
  company.turn_begins(now);
  now += milliseconds(50);
  company.turn_ends(now, 1, 0);
  CHECK(company.expected() == 1);
  CHECK(company.patience_ends() == now + milliseconds(5));
}

TEST_CASE("where a turn of all takes the time of a turn of some, it is of all") {
  Company company;
  Clients clients(20, microseconds(1500));
  // Half of the clients would always be under way.
  const auto turns = clients.run(company, [](size_t /*calls*/) { return milliseconds(4); });
  CHECK(whole_turns(turns, 20) >= 75);
}

TEST_CASE("where each call takes its time, nobody is waited for") {
  Company company;
  Clients clients(20, microseconds(1500));
  const auto turns = clients.run(
      company, [](size_t calls) { return microseconds(200) * static_cast<int>(calls); });
  CHECK(whole_turns(turns, 20) <= 20);
}

TEST_CASE("where waiting changes nothing, nobody is waited for") {
  Company company;
  Clients clients(20, milliseconds(7));  // longer than a turn
  size_t waits = 0;
  for (int turn = 0; turn < 400; ++turn) {
    if (company.expected() > 0) ++waits;
    clients.run_turn(company, [](size_t /*calls*/) { return milliseconds(4); });
  }
  CHECK(waits <= 64);
}

TEST_SUITE_END();
