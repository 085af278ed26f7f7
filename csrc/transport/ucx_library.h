// libucp, opened when a program asks for it.
#pragma once

#include <string>

#include "transport/ucx_abi.h"

namespace sparse_experts::transport::ucx {

struct Library {
  void (*get_version)(unsigned* major, unsigned* minor, unsigned* release);
  Status (*config_read)(const char* prefix, const char* file, Config* config);
  Status (*config_modify)(Config config, const char* name, const char* value);
  void (*config_release)(Config config);
  Status (*init_version)(unsigned major, unsigned minor, const ContextParams* params, Config config,
                         Context* context);
  void (*cleanup)(Context context);
  Status (*worker_create)(Context context, const WorkerParams* params, Worker* worker);
  void (*worker_destroy)(Worker worker);
  Status (*worker_get_address)(Worker worker, void** address, size_t* bytes);
  void (*worker_release_address)(Worker worker, void* address);
  unsigned (*worker_progress)(Worker worker);
  Status (*worker_get_efd)(Worker worker, int* descriptor);
  Status (*worker_arm)(Worker worker);
  Status (*worker_signal)(Worker worker);
  Status (*ep_create)(Worker worker, const EndpointParams* params, Endpoint* endpoint);
  StatusPointer (*ep_close_nbx)(Endpoint endpoint, const RequestParams* params);
  StatusPointer (*tag_send_nbx)(Endpoint endpoint, const void* data, size_t bytes, uint64_t tag,
                                const RequestParams* params);
  Message (*tag_probe_nb)(Worker worker, uint64_t tag, uint64_t mask, int removes,
                          ReceivedInfo* info);
  StatusPointer (*tag_msg_recv_nbx)(Worker worker, void* data, size_t bytes, Message message,
                                    const RequestParams* params);
  void (*request_cancel)(Worker worker, void* request);
  void (*request_free)(void* request);
  Status (*request_check_status)(void* request);
};

// Opened once for the process and never closed: libucs leaves threads and handlers behind. Throws
// TransportError (UNAVAILABLE) where there is none, it is of a version that this code does not know, or
// the process lacks the settings without which it would harm Node.
const Library& library();

}  // namespace sparse_experts::transport::ucx
