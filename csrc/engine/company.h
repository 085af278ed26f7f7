// Between two turns of a device: whether those whose calls have just ended are waited for.
//
// A server's clients ask again once they are answered: whoever had a call when a turn ended may soon
// have the next one. One turn for all of them reads each expert once, where two turns for half of them
// read it twice. But the device does nothing meanwhile, clients may take their time, and a turn whose
// time goes into arithmetic takes the time of its rows, whoever they are with. So it is measured which
// ends more calls a second: each of the two ways has some turns, the better one goes on, and the other
// is tried again now and then.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>

namespace sparse_experts::engine {

// Under the lock of its owner.
class Company {
 public:
  using Clock = std::chrono::steady_clock;

  // A turn that begins later waits for nobody: as long after the last one as that took, five
  // milliseconds at most.
  Clock::time_point patience_ends() const { return last_end_ + patience_; }
  // Calls that are waited for, those that wait among them.
  size_t expected() const { return waits_ ? present_ : 0; }

  void turn_begins(Clock::time_point now);
  // It was of `served` calls, and `waiting` ones are behind it.
  void turn_ends(Clock::time_point now, size_t served, size_t waiting);

 private:
  // With waiting and without.
  struct Way {
    double calls_per_second = 0;  // 0: unknown
    int age = 0;                  // periods since then
  };

  void end_period();

  std::array<Way, 2> ways_;
  bool waits_ = true;
  size_t present_ = 0;  // calls that ran or waited when the last turn ended
  Clock::time_point last_end_{};
  Clock::duration patience_{0};
  Clock::time_point begun_{};
  bool is_counted_ = false;

  // Of the period.
  int turns_ = 0;
  size_t calls_ = 0;
  Clock::duration time_{0};
};

}  // namespace sparse_experts::engine
