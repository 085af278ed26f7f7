#include "engine/expert_source.h"

#include <algorithm>
#include <utility>

#include "core/numeric.h"

namespace sparse_experts::engine {
namespace {

using platform::InputFile;

static_assert(SegmentReader::kMargin >= 2 * InputFile::kUncachedAlignment);

template <typename Body>
void for_segments(const LoadItem& item, const Body& body) {
  for (const LoadSegment* segment : segments_of(item))
    if (segment->bytes > 0) body(*segment);
}

}  // namespace

// Reads of one expert.
class ExpertSource::Reader final : public SegmentReader {
 public:
  Reader(const ExpertSource& source, const std::function<void()>& check, uint64_t read_bytes)
      : source_(source), check_(check), read_bytes_(read_bytes) {}

  void check(const LoadSegment& segment) override {
    const File& file = file_of(segment);
    std::string problem;
    platform::FileStamp now;
    if (!file.plain.stamp(&now, &problem)) fail_io(file.path, problem);
    if (now.bytes < segment.offset || now.bytes - segment.offset < segment.bytes)
      fail_io(file.path, "it ends before " + segment.name);
    if (!(now == file.stamp)) fail_io(file.path, "it has changed since the layer was loaded");
  }

  const uint8_t* read(const LoadSegment& segment, uint64_t begin, uint64_t count,
                      uint8_t* scratch) override {
    const File& file = file_of(segment);
    const uint64_t offset = segment.offset + begin;
    if (file.uncached.is_open()) {
      // The pages that hold them. The last one may reach beyond the file's end.
      const uint64_t first = offset / kPage * kPage;
      const uint64_t end = round_up(offset + count, kPage);
      read_all(file.uncached, file, segment, first, end - first, offset + count - first, scratch);
      return scratch + (offset - first);
    }
    read_all(file.plain, file, segment, offset, count, count, scratch);
    if (source_.direct_ == DirectReads::kAuto) file.plain.forget(offset, count);
    return scratch;
  }

  void check_stopped() const override { check_(); }
  uint64_t read_bytes() const override { return read_bytes_; }

 private:
  static constexpr uint64_t kPage = InputFile::kUncachedAlignment;

  const File& file_of(const LoadSegment& segment) const { return source_.files_[segment.file]; }

  // Reads `count` bytes, of which the first `needed` must come.
  void read_all(const InputFile& input, const File& file, const LoadSegment& segment,
                uint64_t offset, uint64_t count, uint64_t needed, uint8_t* to) const {
    for (uint64_t done = 0; done < needed;) {
      check_();
      std::string problem;
      // The pages around a piece come with it: a read of a page costs a disk as much as one of many.
      const uint64_t left = count - done;
      const uint64_t wanted = left <= read_bytes_ + kMargin ? left : read_bytes_;
      const int64_t got = input.read_at(offset + done, to + done, wanted, &problem);
      if (got < 0) fail_io(file.path, problem);
      if (got == 0) fail_io(file.path, "it ends before " + segment.name);
      done += static_cast<uint64_t>(got);
      // What came is no whole number of pages at the file's end alone.
      if (&input == &file.uncached && static_cast<uint64_t>(got) % kPage != 0 && done < needed)
        fail_io(file.path, "it ends before " + segment.name);
    }
  }

  const ExpertSource& source_;
  const std::function<void()>& check_;
  const uint64_t read_bytes_;
};

ExpertSource::ExpertSource(const std::vector<std::string>& files, std::vector<LoadItem> items,
                           int64_t num_experts, bool gated, DirectReads direct)
    : direct_(direct), files_(files.size()), items_(static_cast<size_t>(num_experts)) {
  for (LoadItem& item : items) {
    if (item.expert < 0 || item.expert >= num_experts)
      fail_argument("There is no expert " + std::to_string(item.expert));
    for_segments(item,
                 [&](const LoadSegment& segment) { open(segment.file, files[segment.file]); });
    items_[static_cast<size_t>(item.expert)].push_back(std::move(item));
  }
  const std::function<void()> go_on = [] {};
  Reader reader(*this, go_on, kReadBytes);
  for (int64_t expert = 0; expert < num_experts; ++expert) {
    check_complete(expert, gated);
    for (const LoadItem& item : items_[static_cast<size_t>(expert)])
      for_segments(item, [&](const LoadSegment& segment) { reader.check(segment); });
  }
}

void ExpertSource::open(size_t index, const std::string& path) {
  File& file = files_[index];
  if (file.plain.is_open()) return;
  file.path = path;
  std::string problem;
  if (!file.plain.open(path, &problem) || !file.plain.stamp(&file.stamp, &problem))
    fail_io(path, problem);
  if (direct_ == DirectReads::kOff || !file.uncached.open_uncached(path, &problem)) return;
  // Another file may have come into its place between the two; and some file systems refuse such reads
  // only when they are asked for one.
  platform::FileStamp other;
  ReadScratch page;
  const bool is_same = file.uncached.stamp(&other, &problem) && other == file.stamp;
  constexpr uint64_t kPage = InputFile::kUncachedAlignment;
  if (!is_same || file.uncached.read_at(0, page.take(kPage), kPage, &problem) < 0)
    file.uncached.close();
}

void ExpertSource::check_complete(int64_t expert, bool gated) const {
  bool has[3] = {!gated, false, false};
  for (const LoadItem& item : items_[static_cast<size_t>(expert)]) {
    if (item.kind == MatrixKind::kGate || item.kind == MatrixKind::kGateUp) has[0] = true;
    if (item.kind == MatrixKind::kUp || item.kind == MatrixKind::kGateUp) has[1] = true;
    if (item.kind == MatrixKind::kDown) has[2] = true;
  }
  if (!has[0] || !has[1] || !has[2])
    fail_argument("Expert " + std::to_string(expert) + " lacks a matrix");
}

void ExpertSource::read(DeviceExecutor& executor, int64_t expert, const SlotOf& slot_of,
                        ReadScratch& scratch, const std::function<void()>& check,
                        uint64_t read_bytes) const {
  Reader reader(*this, check, read_bytes);
  const std::vector<LoadItem>& items = items_[static_cast<size_t>(expert)];
  for (const LoadItem& item : items)
    read_matrix(executor, item, slot_of(item.kind), reader, scratch);
  // Who wrote to a file meanwhile may have written what was read.
  for (const LoadItem& item : items)
    for_segments(item, [&](const LoadSegment& segment) { reader.check(segment); });
}

uint64_t ExpertSource::stored_bytes(int64_t expert) const {
  uint64_t bytes = 0;
  for (const LoadItem& item : items_[static_cast<size_t>(expert)])
    for_segments(item, [&](const LoadSegment& segment) { bytes += segment.bytes; });
  return bytes;
}

bool ExpertSource::is_direct() const {
  return std::all_of(files_.begin(), files_.end(), [](const File& file) {
    return !file.plain.is_open() || file.uncached.is_open();
  });
}

}  // namespace sparse_experts::engine
