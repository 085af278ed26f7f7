// What ranks say to each other, as bytes. A request carries rows of hidden states and, for each row, the
// experts of the receiver that it chose; the answer has one row in f32 for every chosen expert, in the
// request's order. Who needs no answer any more says so. Little-endian, like every processor that this package runs on; every part begins at a
// multiple of 64 bytes.
//
// Whoever decodes believes nothing: a message that breaks a rule is refused with the reason, before any
// of it is used, and nothing outside of it is read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "abi/layer.h"
#include "core/status.h"

namespace sparse_experts::transport {

enum class MessageKind : uint16_t { kRequest = 1, kAnswer = 2, kCancel = 3 };

// In front of every message.
struct Envelope {
  MessageKind kind = MessageKind::kRequest;
  uint64_t group = 0;  // a number that the ranks agreed on when they joined
  uint32_t epoch = 0;  // of the group: raised whenever a rank comes or goes
  int32_t from = 0;    // the sender's rank
  uint64_t call = 0;   // the caller's number of a request; its answer has the same
  uint32_t layer = 0;
};

// Who may say something here.
struct Membership {
  uint64_t group = 0;
  uint32_t epoch = 0;
  int32_t size = 0;  // ranks
};

// A chosen expert of a row.
struct RequestedSlot {
  uint32_t row = 0;  // of the request
  int32_t expert = 0;
  float weight = 0;
};

// What a request may ask of a layer.
struct RequestLimits {
  int64_t hidden_size = 0;
  int64_t top_k = 0;
  int64_t max_rows = 0;
  int64_t num_experts = 0;
  const uint8_t* is_owned = nullptr;  // [num_experts]: 1 where the expert is this rank's
};

// Points into the message that it was decoded from.
class RequestView {
 public:
  int64_t num_rows = 0;
  int64_t num_slots = 0;
  int32_t dtype = SE_F32;      // of the rows
  const void* rows = nullptr;  // [num_rows, hidden_size], dense
  RequestedSlot slot(int64_t index) const;

 private:
  friend Status decode_request(const void* data, uint64_t bytes, const RequestLimits& limits,
                               RequestView* request);
  const uint8_t* slots_ = nullptr;
};

struct AnswerView {
  int32_t code = SE_OK;         // SeCode: how the owner fared
  const float* rows = nullptr;  // [num_slots, width]; null where code is not SE_OK
  std::string message;          // there
};

// `rows`: which rows of `hidden` [tokens, hidden_size] are sent, in this order. `slots` rise by row, and
// name rows of the request.
std::vector<uint8_t> encode_request(const Envelope& envelope, const SeTensor& hidden,
                                    const std::vector<int64_t>& rows,
                                    const std::vector<RequestedSlot>& slots);
// Room for an answer's rows, which the caller writes to answer_rows() of it.
std::vector<uint8_t> encode_answer(const Envelope& envelope, int64_t num_slots, int64_t width);
float* answer_rows(std::vector<uint8_t>* answer);
// Why there are none; a long text is cut.
std::vector<uint8_t> encode_refusal(const Envelope& envelope, int32_t code,
                                    const std::string& message);

// The request with the envelope's call is not needed any more.
std::vector<uint8_t> encode_cancel(const Envelope& envelope);

// The first look at any message: of this group and epoch, from the peer that it came from, and as long as
// it says. For a cancel it is all there is.
Status decode_envelope(const void* data, uint64_t bytes, const Membership& membership, int32_t peer,
                       Envelope* envelope);
// Of a message whose envelope was taken.
Status decode_request(const void* data, uint64_t bytes, const RequestLimits& limits,
                      RequestView* request);
Status decode_answer(const void* data, uint64_t bytes, int64_t num_slots, int64_t width,
                     AnswerView* answer);

}  // namespace sparse_experts::transport
