// Requests and answers as bytes: what is written is read, and what breaks a rule is refused by name.
#include "transport/messages.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>

#include "cpp/check.h"
#include "cpp/random.h"

using namespace sparse_experts::transport;
using native_test::Random;
using sparse_experts::Status;

namespace {

constexpr int64_t kHidden = 24;
constexpr int64_t kTopK = 3;
constexpr int64_t kExperts = 8;
constexpr uint8_t kOwned[kExperts] = {1, 0, 1, 1, 0, 0, 1, 0};
constexpr Membership kMembership = {0x1234'5678'9abc'def0ULL, 4, 3};
constexpr int32_t kPeer = 2;
// Where fields of a message lie.
enum : size_t {
  kMagic = 0,
  kVersion = 4,
  kKind = 6,
  kGroup = 8,
  kEpoch = 16,
  kFrom = 20,
  kCode = 36,
  kBytes = 40,
  kNumRows = 48,
  kNumSlots = 52,
  kDtype = 56,
  kWidth = 60,
  kSlots = 64
};

Envelope envelope_of(MessageKind kind) {
  Envelope envelope;
  envelope.kind = kind;
  envelope.group = kMembership.group;
  envelope.epoch = kMembership.epoch;
  envelope.from = kPeer;
  envelope.call = 77;
  envelope.layer = 5;
  return envelope;
}

RequestLimits limits() { return {kHidden, kTopK, 16, kExperts, kOwned}; }

// 6 rows of hidden states, of which the rows 1, 2 and 5 are asked for.
struct Asked {
  std::vector<float> hidden;
  std::vector<int64_t> rows = {1, 2, 5};
  std::vector<RequestedSlot> slots = {
      {0, 3, 0.5F}, {0, 6, NAN}, {1, 0, -1.0F}, {2, 2, 0.25F}, {2, 2, 0.75F}, {2, 6, 0.0F}};
  std::vector<uint8_t> message;

  Asked() {
    for (int64_t i = 0; i < 6 * kHidden; ++i) hidden.push_back(static_cast<float>(i) * 0.5F);
    SeTensor tensor = {};
    tensor.data = hidden.data();
    tensor.dtype = SE_F32;
    tensor.rank = 2;
    tensor.shape[0] = 6;
    tensor.shape[1] = tensor.strides[0] = kHidden;
    tensor.strides[1] = 1;
    message = encode_request(envelope_of(MessageKind::kRequest), tensor, rows, slots);
  }
};

std::vector<uint8_t> answered(int64_t num_slots, int64_t width) {
  std::vector<uint8_t> message =
      encode_answer(envelope_of(MessageKind::kAnswer), num_slots, width);
  for (int64_t i = 0; i < num_slots * width; ++i)
    answer_rows(&message)[i] = static_cast<float>(i) + 0.125F;
  return message;
}

// Bytes in memory of exactly their length, so that a sanitizer sees every read outside of them.
struct Exact {
  explicit Exact(const std::vector<uint8_t>& message)
      : data(new uint8_t[message.size()]), bytes(message.size()) {
    if (bytes > 0) std::memcpy(data.get(), message.data(), bytes);
  }
  std::unique_ptr<uint8_t[]> data;
  size_t bytes;
};

Status read_request(const std::vector<uint8_t>& message, RequestView* view = nullptr) {
  const Exact exact(message);
  Envelope envelope;
  RequestView unused;
  SE_RETURN_IF_ERROR(
      decode_envelope(exact.data.get(), exact.bytes, kMembership, kPeer, &envelope));
  return decode_request(exact.data.get(), exact.bytes, limits(), view != nullptr ? view : &unused);
}

Status read_answer(const std::vector<uint8_t>& message, int64_t num_slots, int64_t width) {
  const Exact exact(message);
  Envelope envelope;
  AnswerView view;
  SE_RETURN_IF_ERROR(
      decode_envelope(exact.data.get(), exact.bytes, kMembership, kPeer, &envelope));
  return decode_answer(exact.data.get(), exact.bytes, num_slots, width, &view);
}

template <typename T>
std::vector<uint8_t> with(std::vector<uint8_t> message, size_t at, T value) {
  std::memcpy(message.data() + at, &value, sizeof value);
  return message;
}

bool same_bytes(const void* a, const void* b, size_t bytes) { return std::memcmp(a, b, bytes) == 0; }

void check_refused(const Status& status, const std::string& reason) {
  CHECK_MESSAGE(!status.is_ok(), reason);
  CHECK_MESSAGE(status.message().find(reason) != std::string::npos, reason, ": ",
                status.message());
}

}  // namespace

TEST_SUITE_BEGIN("messages");

TEST_CASE("a request is read as it was written") {
  const Asked asked;
  Envelope envelope;
  REQUIRE(decode_envelope(asked.message.data(), asked.message.size(), kMembership, kPeer, &envelope)
              .is_ok());
  CHECK(envelope.kind == MessageKind::kRequest);
  CHECK(envelope.call == 77);
  CHECK(envelope.layer == 5);
  CHECK(envelope.from == kPeer);
  RequestView request;
  REQUIRE(
      decode_request(asked.message.data(), asked.message.size(), limits(), &request).is_ok());
  CHECK(request.num_rows == 3);
  CHECK(request.num_slots == 6);
  CHECK(request.dtype == SE_F32);
  for (size_t i = 0; i < asked.slots.size(); ++i) {
    const RequestedSlot slot = request.slot(static_cast<int64_t>(i));
    CHECK(slot.row == asked.slots[i].row);
    CHECK(slot.expert == asked.slots[i].expert);
    CHECK(same_bytes(&slot.weight, &asked.slots[i].weight, sizeof(float)));
  }
  const auto* rows = static_cast<const float*>(request.rows);
  for (size_t r = 0; r < asked.rows.size(); ++r)
    CHECK(same_bytes(rows + static_cast<int64_t>(r) * kHidden,
                     asked.hidden.data() + asked.rows[r] * kHidden, kHidden * sizeof(float)));
  CHECK((static_cast<const uint8_t*>(request.rows) - asked.message.data()) % 64 == 0);
}

TEST_CASE("an answer and a refusal are read as they were written") {
  const std::vector<uint8_t> message = answered(5, 7);
  AnswerView answer;
  REQUIRE(decode_answer(message.data(), message.size(), 5, 7, &answer).is_ok());
  CHECK(answer.code == SE_OK);
  for (int i = 0; i < 35; ++i) CHECK(answer.rows[i] == static_cast<float>(i) + 0.125F);

  const std::vector<uint8_t> refusal = encode_refusal(envelope_of(MessageKind::kAnswer),
                                                      SE_OUT_OF_MEMORY, std::string(900, 'x'));
  REQUIRE(decode_answer(refusal.data(), refusal.size(), 5, 7, &answer).is_ok());
  CHECK(answer.code == SE_OUT_OF_MEMORY);
  CHECK(answer.rows == nullptr);
  CHECK(answer.message == std::string(400, 'x'));
}

TEST_CASE("a cancel names its call") {
  const std::vector<uint8_t> message = encode_cancel(envelope_of(MessageKind::kCancel));
  Envelope envelope;
  REQUIRE(decode_envelope(message.data(), message.size(), kMembership, kPeer, &envelope).is_ok());
  CHECK(envelope.kind == MessageKind::kCancel);
  CHECK(envelope.call == 77);
}

TEST_CASE("what is not from this group, epoch and peer is refused") {
  const std::vector<uint8_t> good = Asked().message;
  CHECK(read_request(good).is_ok());
  check_refused(read_request(std::vector<uint8_t>(63)), "no room for its head");
  check_refused(read_request({}), "no room for its head");
  check_refused(read_request(with<uint32_t>(good, kMagic, 1)), "not one of this package");
  check_refused(read_request(with<uint16_t>(good, kVersion, 2)), "of version 2");
  check_refused(read_request(with<uint16_t>(good, kKind, 0)), "of kind 0");
  check_refused(read_request(with<uint16_t>(good, kKind, 4)), "of kind 4");
  check_refused(read_request(with<uint16_t>(good, kKind, 3)), "a cancel of");
  check_refused(read_request(with<uint64_t>(good, kGroup, 1)), "of another group");
  check_refused(read_request(with<uint32_t>(good, kEpoch, 3)), "of epoch 3, now is 4");
  check_refused(read_request(with<uint32_t>(good, kEpoch, 5)), "of epoch 5, now is 4");
  check_refused(read_request(with<int32_t>(good, kFrom, 1)), "from rank 1, and came from rank 2");
  check_refused(read_request(with<uint64_t>(good, kBytes, good.size() + 1)), "and has");
  Envelope envelope;
  check_refused(decode_envelope(good.data(), good.size(), {kMembership.group, 4, 2}, 2, &envelope),
                "came from rank 2");
}

TEST_CASE("a request outside of its layer is refused") {
  const std::vector<uint8_t> good = Asked().message;
  check_refused(read_request(with<int32_t>(good, kDtype, SE_I32)), "rows of dtype");
  check_refused(read_request(with<int32_t>(good, kDtype, -1)), "rows of dtype");
  check_refused(read_request(with<uint32_t>(good, kWidth, 23)), "rows of 23 values");
  check_refused(read_request(with<uint32_t>(good, kWidth, 0)), "rows of 0 values");
  check_refused(read_request(with<uint32_t>(good, kNumRows, 0)), "0 rows, 1 to 16");
  check_refused(read_request(with<uint32_t>(good, kNumRows, 17)), "17 rows, 1 to 16");
  check_refused(read_request(with<uint32_t>(good, kNumRows, 0xffff'ffff)), "rows, 1 to 16");
  check_refused(read_request(with<uint32_t>(good, kNumSlots, 0)), "0 slots of 3 rows");
  check_refused(read_request(with<uint32_t>(good, kNumSlots, 10)), "10 slots of 3 rows");
  check_refused(read_request(with<uint32_t>(good, kNumSlots, 0xffff'ffff)), "slots of 3 rows");
  check_refused(read_request(with<uint32_t>(good, kNumRows, 4)), "are not those of 4 rows");
  check_refused(read_request(with<int32_t>(good, kDtype, SE_F16)), "are not those of 3 rows");
  const auto slot_at = [](size_t slot) { return kSlots + slot * 12; };
  check_refused(read_request(with<uint32_t>(good, slot_at(5), 3)), "is of row 3");
  check_refused(read_request(with<uint32_t>(good, slot_at(4), 0)), "too early");
  check_refused(read_request(with<uint32_t>(good, slot_at(2), 2)), "row 2 has more than 3 slots");
  check_refused(read_request(with<int32_t>(good, slot_at(0) + 4, 1)), "expert 1 is not here");
  check_refused(read_request(with<int32_t>(good, slot_at(0) + 4, 8)), "expert 8 is not here");
  check_refused(read_request(with<int32_t>(good, slot_at(0) + 4, -1)), "expert -1 is not here");
}

TEST_CASE("an answer that is not the one asked for is refused") {
  const std::vector<uint8_t> good = answered(5, 7);
  CHECK(read_answer(good, 5, 7).is_ok());
  check_refused(read_answer(good, 4, 7), "asked for were 4 of 7");
  check_refused(read_answer(good, 5, 8), "asked for were 5 of 8");
  check_refused(read_answer(with<uint32_t>(good, kNumSlots, 0x4000'0000), 5, 7), "asked for were");
  check_refused(read_answer(with<int32_t>(good, kCode, 99), 5, 7), "a refusal with code 99");
  check_refused(read_answer(with<int32_t>(good, kCode, -1), 5, 7), "a refusal with code -1");
  std::vector<uint8_t> longer = good;
  longer.resize(good.size() + 4);
  check_refused(read_answer(with<uint64_t>(longer, kBytes, longer.size()), 5, 7), "are not those");
  std::vector<uint8_t> text = good;
  text.resize(64 + 401);
  check_refused(read_answer(with<uint64_t>(with<int32_t>(text, kCode, SE_INTERNAL), kBytes,
                                           text.size()),
                            5, 7),
                "401 bytes of text");
}

TEST_CASE("any cut of a message is refused, whatever it says of its length") {
  for (const auto& [good, read] :
       std::vector<std::pair<std::vector<uint8_t>,
                             std::function<Status(const std::vector<uint8_t>&)>>>{
           {Asked().message, [](const std::vector<uint8_t>& m) { return read_request(m); }},
           {answered(5, 7), [](const std::vector<uint8_t>& m) { return read_answer(m, 5, 7); }}}) {
    native_test::Every refused;
    for (size_t length = 0; length < good.size(); ++length) {
      std::vector<uint8_t> cut(good.begin(), good.begin() + static_cast<int64_t>(length));
      refused.that(!read(cut).is_ok());
      if (length >= kBytes + 8) refused.that(!read(with<uint64_t>(cut, kBytes, length)).is_ok());
    }
    refused.check("cuts that are refused");
  }
}

// Whatever bytes come: what is taken keeps every rule that its readers rely on.
TEST_CASE("mutated messages are refused, or are good ones") {
  const std::vector<uint8_t> request = Asked().message;
  const std::vector<uint8_t> answer = answered(5, 7);
  Random random(20'26);
  native_test::Every kept;
  int64_t num_taken = 0;
  for (int64_t round = 0; round < 60'000; ++round) {
    const bool is_request = round % 2 == 0;
    std::vector<uint8_t> message = is_request ? request : answer;
    for (int64_t i = 1 + random.below(3); i > 0; --i) {
      // Half of the changes hit the head or the slots, in words as often as in bits.
      const auto limit = static_cast<int64_t>(random.below(2) == 0 ? kSlots + 72 : message.size());
      const auto at = static_cast<size_t>(random.below(limit));
      constexpr uint32_t kWords[] = {0, 1, 2, 5, 0x7fff'ffff, 0x8000'0000, 0xffff'ffff};
      if (random.below(2) == 0) {
        message[at] ^= static_cast<uint8_t>(1U << random.below(8));
      } else {
        const uint32_t word = kWords[random.below(7)];
        const size_t begin = at / 4 * 4;
        if (begin + 4 <= message.size()) std::memcpy(message.data() + begin, &word, 4);
      }
    }
    if (random.below(8) == 0)
      message.resize(static_cast<size_t>(random.below(static_cast<int64_t>(message.size()))));
    if (!is_request) {
      num_taken += read_answer(message, 5, 7).is_ok() ? 1 : 0;
      continue;
    }
    const Exact exact(message);
    Envelope envelope;
    RequestView view;
    if (!decode_envelope(exact.data.get(), exact.bytes, kMembership, kPeer, &envelope).is_ok() ||
        !decode_request(exact.data.get(), exact.bytes, limits(), &view).is_ok()) {
      continue;
    }
    ++num_taken;
    kept.that(view.num_rows >= 1 && view.num_rows <= 16);
    int64_t of_row[16] = {};
    for (int64_t i = 0; i < view.num_slots; ++i) {
      const RequestedSlot slot = view.slot(i);
      kept.that(slot.row < view.num_rows && ++of_row[slot.row] <= kTopK);
      kept.that(slot.expert >= 0 && slot.expert < kExperts && kOwned[slot.expert] == 1);
    }
    // Readable to the last byte.
    const auto* rows = static_cast<const uint8_t*>(view.rows);
    uint8_t sum = 0;
    for (int64_t i = 0; i < view.num_rows * kHidden * 4; ++i) sum ^= rows[i];
    kept.that(rows + view.num_rows * kHidden * 4 == exact.data.get() + exact.bytes || sum == 0);
  }
  kept.check("rules of the messages that were taken");
  // Bits of weights and rows may be anything.
  CHECK(num_taken > 1000);
}

TEST_SUITE_END();
