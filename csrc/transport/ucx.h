// Ranks in processes of their own, on one machine or several, over UCX: libucp.so.0, which the system has
// or has not, opened when a program asks for it. TCP, unless UCX_TLS names others; UCX neither
// authenticates nor encrypts, so the network between the ranks is one that its owner trusts.
#pragma once

#include "transport/transport.h"

namespace sparse_experts::transport {

// Its open() is UNAVAILABLE, with the reason, where libucp is missing, of another version, or would harm
// the process for want of UCX_HANDLE_ERRORS=none and UCX_MEM_EVENTS=n in its environment.
const SeTransportTable& ucx_transport();

}  // namespace sparse_experts::transport
