// Launches that may start before the one before them has ended. Here they never do: launches run one
// after another. What is held are the rules that make it safe on a device:
//   - every thread waits for the launches before (griddepcontrol.wait) before it ends
//   - until then it writes no global memory, and reads none that the launch before it wrote: the race
//     detector sees to that
//   - it lets the next launch start only after its own wait: whoever starts then finds everything that is
//     older than its predecessor complete
#include "block.h"
#include "simt/ptx.h"

namespace simt::detail {

void dependency_wait() { self()->has_waited = true; }

void launch_dependents(const char* file, int line) {
  Thread* thread = self();
  if (!thread->block->launch().early || thread->has_waited) return;
  EngineScope scope(thread);
  thread->block->fail(thread, DefectKind::kDependency,
                      "griddepcontrol.launch_dependents before griddepcontrol.wait", {file, line});
}

void check_waited(Thread* thread) {
  if (!thread->block->launch().early || thread->has_waited) return;
  thread->block->fail(thread, DefectKind::kDependency,
                      "the thread ends without a wait for the launch before, which may still run",
                      Site());
}

}  // namespace simt::detail
