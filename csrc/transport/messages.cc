#include "transport/messages.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "core/dtype.h"
#include "core/numeric.h"
#include "ops/checks.h"

namespace sparse_experts::transport {
namespace {

constexpr uint32_t kMagic = 0x584d'4553;  // "SEMX"
constexpr uint16_t kVersion = 1;
constexpr uint64_t kPart = 64;  // where parts of a message begin: multiples of it
constexpr size_t kLongestText = 400;

// As it lies in front of a message.
struct Head {
  uint32_t magic;
  uint16_t version;
  uint16_t kind;
  uint64_t group;
  uint32_t epoch;
  int32_t from;
  uint64_t call;
  uint32_t layer;
  int32_t code;    // of an answer
  uint64_t bytes;  // of the whole message
  uint32_t num_rows;
  uint32_t num_slots;
  int32_t dtype;
  uint32_t width;  // of a row
};
static_assert(sizeof(Head) == kPart && offsetof(Head, width) == 60, "a head is one part");

struct Slot {
  uint32_t row;
  int32_t expert;
  float weight;
};
static_assert(sizeof(Slot) == 12, "slots lie one behind the other");

Head head_of(const Envelope& envelope) {
  Head head = {};
  head.magic = kMagic;
  head.version = kVersion;
  head.kind = static_cast<uint16_t>(envelope.kind);
  head.group = envelope.group;
  head.epoch = envelope.epoch;
  head.from = envelope.from;
  head.call = envelope.call;
  head.layer = envelope.layer;
  return head;
}

Head read_head(const void* data) {
  Head head;
  std::memcpy(&head, data, sizeof head);
  return head;
}

std::vector<uint8_t> message_of(Head head, uint64_t bytes) {
  head.bytes = bytes;
  std::vector<uint8_t> message(bytes);
  std::memcpy(message.data(), &head, sizeof head);
  return message;
}

// Counts have 32 bits, a row's width too, so nothing here wraps.
uint64_t rows_begin(uint32_t num_slots) {
  return kPart + round_up(uint64_t{num_slots} * sizeof(Slot), kPart);
}

Status check_length(uint64_t bytes, uint64_t begin, uint64_t num_rows, uint64_t row_bytes) {
  SE_CHECK_ARGUMENT(
      bytes >= begin && (bytes - begin) / row_bytes == num_rows && (bytes - begin) % row_bytes == 0,
      "message: " + std::to_string(bytes) + " bytes are not those of " + std::to_string(num_rows) +
          " rows");
  return Status::ok();
}

Status check_slots(const RequestView& request, const RequestLimits& limits) {
  uint32_t row = 0;
  int64_t of_row = 0;
  for (int64_t i = 0; i < request.num_slots; ++i) {
    const RequestedSlot slot = request.slot(i);
    SE_CHECK_ARGUMENT(static_cast<int64_t>(slot.row) < request.num_rows && slot.row >= row,
                      "request: slot " + std::to_string(i) + " is of row " +
                          std::to_string(slot.row) + ", which is none or too early");
    of_row = slot.row == row ? of_row + 1 : 1;
    row = slot.row;
    SE_CHECK_ARGUMENT(of_row <= limits.top_k, "request: row " + std::to_string(row) +
                                                  " has more than " + std::to_string(limits.top_k) +
                                                  " slots");
    SE_CHECK_ARGUMENT(
        slot.expert >= 0 && slot.expert < limits.num_experts && limits.is_owned[slot.expert] == 1,
        "request: expert " + std::to_string(slot.expert) + " is not here");
  }
  return Status::ok();
}

}  // namespace

RequestedSlot RequestView::slot(int64_t index) const {
  Slot slot;
  std::memcpy(&slot, slots_ + static_cast<uint64_t>(index) * sizeof slot, sizeof slot);
  return {slot.row, slot.expert, slot.weight};
}

std::vector<uint8_t> encode_request(const Envelope& envelope, const SeTensor& hidden,
                                    const std::vector<int64_t>& rows,
                                    const std::vector<RequestedSlot>& slots) {
  Head head = head_of(envelope);
  head.num_rows = static_cast<uint32_t>(rows.size());
  head.num_slots = static_cast<uint32_t>(slots.size());
  head.dtype = hidden.dtype;
  head.width = static_cast<uint32_t>(hidden.shape[1]);
  const auto element_bytes = static_cast<uint64_t>(dtype_bytes(hidden.dtype));
  const uint64_t row_bytes = head.width * element_bytes;
  const uint64_t begin = rows_begin(head.num_slots);
  std::vector<uint8_t> message = message_of(head, begin + rows.size() * row_bytes);
  uint8_t* to = message.data() + kPart;
  for (const RequestedSlot& slot : slots) {
    const Slot written = {slot.row, slot.expert, slot.weight};
    std::memcpy(to, &written, sizeof written);
    to += sizeof written;
  }
  to = message.data() + begin;
  for (const int64_t row : rows) {
    const uint64_t offset = static_cast<uint64_t>(row * hidden.strides[0]) * element_bytes;
    std::memcpy(to, static_cast<const uint8_t*>(hidden.data) + offset, row_bytes);
    to += row_bytes;
  }
  return message;
}

std::vector<uint8_t> encode_answer(const Envelope& envelope, int64_t num_slots, int64_t width) {
  Head head = head_of(envelope);
  head.num_slots = static_cast<uint32_t>(num_slots);
  head.dtype = SE_F32;
  head.width = static_cast<uint32_t>(width);
  const uint64_t row_bytes = static_cast<uint64_t>(width) * sizeof(float);
  return message_of(head, kPart + static_cast<uint64_t>(num_slots) * row_bytes);
}

float* answer_rows(std::vector<uint8_t>* answer) {
  return reinterpret_cast<float*>(answer->data() + kPart);
}

std::vector<uint8_t> encode_refusal(const Envelope& envelope, int32_t code,
                                    const std::string& message) {
  Head head = head_of(envelope);
  head.code = code;
  const size_t length = std::min(message.size(), kLongestText);
  std::vector<uint8_t> refusal = message_of(head, kPart + length);
  std::memcpy(refusal.data() + kPart, message.data(), length);
  return refusal;
}

std::vector<uint8_t> encode_cancel(const Envelope& envelope) {
  return message_of(head_of(envelope), kPart);
}

Status decode_envelope(const void* data, uint64_t bytes, const Membership& membership, int32_t peer,
                       Envelope* envelope) {
  SE_CHECK_ARGUMENT(bytes >= kPart,
                    "message: " + std::to_string(bytes) + " bytes have no room for its head");
  const Head head = read_head(data);
  SE_CHECK_ARGUMENT(head.magic == kMagic, "message: not one of this package");
  SE_CHECK_ARGUMENT(head.version == kVersion, "message: of version " +
                                                  std::to_string(head.version) + ", known is " +
                                                  std::to_string(kVersion));
  SE_CHECK_ARGUMENT(head.kind >= static_cast<uint16_t>(MessageKind::kRequest) &&
                        head.kind <= static_cast<uint16_t>(MessageKind::kCancel),
                    "message: of kind " + std::to_string(head.kind) + ", which is none");
  SE_CHECK_ARGUMENT(head.group == membership.group, "message: of another group");
  SE_CHECK_ARGUMENT(head.epoch == membership.epoch, "message: of epoch " +
                                                        std::to_string(head.epoch) + ", now is " +
                                                        std::to_string(membership.epoch));
  SE_CHECK_ARGUMENT(head.from == peer && peer >= 0 && peer < membership.size,
                    "message: says that it is from rank " + std::to_string(head.from) +
                        ", and came from rank " + std::to_string(peer));
  SE_CHECK_ARGUMENT(head.bytes == bytes, "message: says that it has " + std::to_string(head.bytes) +
                                             " bytes, and has " + std::to_string(bytes));
  envelope->kind = static_cast<MessageKind>(head.kind);
  SE_CHECK_ARGUMENT(envelope->kind != MessageKind::kCancel || bytes == kPart,
                    "message: a cancel of " + std::to_string(bytes) + " bytes");
  envelope->group = head.group;
  envelope->epoch = head.epoch;
  envelope->from = head.from;
  envelope->call = head.call;
  envelope->layer = head.layer;
  return Status::ok();
}

Status decode_request(const void* data, uint64_t bytes, const RequestLimits& limits,
                      RequestView* request) {
  const Head head = read_head(data);
  SE_CHECK_ARGUMENT(is_float_dtype(head.dtype),
                    "request: rows of dtype " + std::to_string(head.dtype));
  SE_CHECK_ARGUMENT(int64_t{head.width} == limits.hidden_size && limits.hidden_size > 0,
                    "request: rows of " + std::to_string(head.width) + " values, the layer has " +
                        std::to_string(limits.hidden_size));
  SE_CHECK_ARGUMENT(int64_t{head.num_rows} >= 1 && int64_t{head.num_rows} <= limits.max_rows,
                    "request: " + std::to_string(head.num_rows) + " rows, 1 to " +
                        std::to_string(limits.max_rows) + " are taken");
  SE_CHECK_ARGUMENT(
      head.num_slots >= 1 && int64_t{head.num_slots} <= int64_t{head.num_rows} * limits.top_k,
      "request: " + std::to_string(head.num_slots) + " slots of " + std::to_string(head.num_rows) +
          " rows that choose " + std::to_string(limits.top_k) + " experts each");
  const uint64_t row_bytes = head.width * static_cast<uint64_t>(dtype_bytes(head.dtype));
  const uint64_t begin = rows_begin(head.num_slots);
  SE_RETURN_IF_ERROR(check_length(bytes, begin, head.num_rows, row_bytes));
  RequestView view;
  view.num_rows = head.num_rows;
  view.num_slots = head.num_slots;
  view.dtype = head.dtype;
  view.slots_ = static_cast<const uint8_t*>(data) + kPart;
  view.rows = static_cast<const uint8_t*>(data) + begin;
  SE_RETURN_IF_ERROR(check_slots(view, limits));
  *request = view;
  return Status::ok();
}

Status decode_answer(const void* data, uint64_t bytes, int64_t num_slots, int64_t width,
                     AnswerView* answer) {
  const Head head = read_head(data);
  AnswerView view;
  view.code = head.code;
  const auto* body = static_cast<const uint8_t*>(data) + kPart;
  if (head.code != SE_OK) {
    SE_CHECK_ARGUMENT(
        head.code > SE_OK && head.code <= SE_WORKSPACE_TOO_SMALL && bytes - kPart <= kLongestText,
        "answer: a refusal with code " + std::to_string(head.code) + " and " +
            std::to_string(bytes - kPart) + " bytes of text");
    view.message.assign(reinterpret_cast<const char*>(body), bytes - kPart);
    *answer = std::move(view);
    return Status::ok();
  }
  SE_CHECK_ARGUMENT(int64_t{head.num_slots} == num_slots && int64_t{head.width} == width &&
                        num_slots > 0 && width > 0,
                    "answer: " + std::to_string(head.num_slots) + " rows of " +
                        std::to_string(head.width) + " values, asked for were " +
                        std::to_string(num_slots) + " of " + std::to_string(width));
  SE_RETURN_IF_ERROR(check_length(bytes, kPart, head.num_slots, head.width * sizeof(float)));
  view.rows = reinterpret_cast<const float*>(body);
  *answer = std::move(view);
  return Status::ok();
}

}  // namespace sparse_experts::transport
