// What this package uses of libucp's C interface: version 1 of it, whose structs only grow at their ends
// and say by a mask which fields are set. Written from its documentation, so that building needs no
// header of it; UCX's own names stand in comments.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sparse_experts::transport::ucx {

// ucs_status_t is a packed enum: one byte. Negative: an error.
using Status = int8_t;
constexpr Status kOk = 0;
constexpr Status kBusy = -15;      // UCS_ERR_BUSY
constexpr Status kCanceled = -16;  // UCS_ERR_CANCELED
constexpr int kLastError = -100;   // UCS_ERR_LAST

// What starts an operation returns null (it is done), an error in the pointer's bits, or a request.
using StatusPointer = void*;
inline bool is_error(StatusPointer pointer) {
  return reinterpret_cast<uintptr_t>(pointer) >=
         static_cast<uintptr_t>(static_cast<intptr_t>(kLastError));
}
inline Status status_of(StatusPointer pointer) {
  return static_cast<Status>(reinterpret_cast<intptr_t>(pointer));
}

using Context = void*;
using Worker = void*;
using Endpoint = void*;
using Config = void*;
using Message = void*;  // ucp_tag_message_h

constexpr uint64_t kParamFeatures = 1;       // UCP_PARAM_FIELD_FEATURES
constexpr uint64_t kFeatureTag = 1 << 0;     // UCP_FEATURE_TAG
constexpr uint64_t kFeatureWakeup = 1 << 4;  // UCP_FEATURE_WAKEUP
struct ContextParams {                       // ucp_params_t
  uint64_t field_mask;
  uint64_t features;
  uint64_t unused[16];
};

constexpr uint64_t kWorkerThreadMode = 1;  // UCP_WORKER_PARAM_FIELD_THREAD_MODE
constexpr int32_t kThreadsSerialized = 1;  // UCS_THREAD_MODE_SERIALIZED
struct WorkerParams {                      // ucp_worker_params_t
  uint64_t field_mask;
  int32_t thread_mode;
  int32_t unused_word;
  uint64_t unused[32];
};

using ErrorHandler = void (*)(void* argument, Endpoint endpoint, Status status);
constexpr uint64_t kEndpointAddress = 1 << 0;       // UCP_EP_PARAM_FIELD_REMOTE_ADDRESS
constexpr uint64_t kEndpointErrorMode = 1 << 1;     // UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE
constexpr uint64_t kEndpointErrorHandler = 1 << 2;  // UCP_EP_PARAM_FIELD_ERR_HANDLER
constexpr int32_t kErrorModePeer = 1;               // UCP_ERR_HANDLING_MODE_PEER
struct EndpointParams {                             // ucp_ep_params_t
  uint64_t field_mask;
  const void* address;
  int32_t error_mode;
  int32_t unused_word;
  ErrorHandler error_handler;
  void* error_argument;
  uint64_t unused[16];
};

struct ReceivedInfo {  // ucp_tag_recv_info_t
  uint64_t sender_tag;
  size_t length;
};

using SendCallback = void (*)(void* request, Status status, void* user_data);
using ReceiveCallback = void (*)(void* request, Status status, const ReceivedInfo* info,
                                 void* user_data);
constexpr uint32_t kAttributeCallback = 1 << 1;  // UCP_OP_ATTR_FIELD_CALLBACK
constexpr uint32_t kAttributeUserData = 1 << 2;  // UCP_OP_ATTR_FIELD_USER_DATA
constexpr uint32_t kAttributeFlags = 1 << 4;     // UCP_OP_ATTR_FIELD_FLAGS
constexpr uint32_t kAttributeDelayed = 1 << 16;  // UCP_OP_ATTR_FLAG_NO_IMM_CMPL
constexpr uint32_t kCloseForce = 1;              // UCP_EP_CLOSE_FLAG_FORCE
struct RequestParams {                           // ucp_request_param_t
  uint32_t attributes;
  uint32_t flags;
  void* request;
  union {
    SendCallback send;
    ReceiveCallback receive;
  } callback;
  uint64_t datatype;
  void* user_data;
  uint64_t unused[8];
};

static_assert(offsetof(EndpointParams, error_handler) == 24 &&
                  offsetof(RequestParams, user_data) == 32,
              "libucp's structs on a machine of 64 bits");

}  // namespace sparse_experts::transport::ucx
