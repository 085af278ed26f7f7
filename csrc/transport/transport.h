/* How the ranks of a group exchange messages: one table of functions for every way there is (`local`:
 * ranks of one process; `ucx`: processes and machines). Rules that every implementation keeps:
 *  - No exception, abort or exit crosses this boundary: a failure is an SeTransportCode plus a filled
 * SeStatus, whose code is that SeTransportCode.
 *  - A message arrives whole or not at all, unchanged, and once. Messages of one peer may overtake each
 * other, and those of a peer that is lost may be missing: whoever asks for an answer waits with a
 * deadline.
 *  - One thread at a time polls and receives. send, cancel, connect, peer_state and wake may be called
 * on any thread meanwhile; open comes before everything, close after everything.
 *  - Nothing here says who a peer is or whether it may be believed: ranks know each other by the
 * addresses that they were given, and every message is checked before it is used (messages.h).
 */
#ifndef SPARSE_EXPERTS_TRANSPORT_H_
#define SPARSE_EXPERTS_TRANSPORT_H_

#include <stdint.h>

#include "abi/layer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum SeTransportCode {
  SE_TRANSPORT_OK = 0,
  SE_TRANSPORT_INVALID_ARGUMENT = 1,
  SE_TRANSPORT_OUT_OF_MEMORY = 2,
  SE_TRANSPORT_UNAVAILABLE = 3, /* it cannot run here; the message says why */
  SE_TRANSPORT_PEER_LOST = 4,
  SE_TRANSPORT_CANCELLED = 5,
  SE_TRANSPORT_FAILED = 6 /* the transport itself: close it */
} SeTransportCode;

typedef enum SePeerState {
  SE_PEER_UNKNOWN = 0, /* connect has not been called */
  SE_PEER_CONNECTED = 1,
  SE_PEER_LOST = 2 /* for good; a peer that comes back is another transport's */
} SePeerState;

typedef struct SeTransportOptions {
  int32_t rank; /* of the caller, below size */
  int32_t size; /* ranks of the group, 1 to SE_TRANSPORT_MAX_RANKS */
  /* Larger messages are neither sent nor taken; one that comes makes its peer lost. */
  uint64_t max_message_bytes;
  /* local: the SeLocalNetwork that the ranks share (local.h). Else NULL. */
  void* network;
  /* ucx: the network interface that data goes through ("lo", "eth0"); NULL: "lo". */
  const char* interface_name;
} SeTransportOptions;

#define SE_TRANSPORT_MAX_RANKS 4096
#define SE_TRANSPORT_MAX_ADDRESS_BYTES 4096

typedef enum SeTransportEventKind {
  SE_EVENT_NONE = 0,    /* the time is over, or somebody called wake */
  SE_EVENT_SENT = 1,    /* the transport is done with a message's memory; code says how it went */
  SE_EVENT_MESSAGE = 2, /* recv has something */
  SE_EVENT_PEER_LOST = 3
} SeTransportEventKind;

typedef struct SeTransportEvent {
  int32_t kind; /* SeTransportEventKind */
  int32_t peer;
  uint64_t ticket; /* SENT: of which send */
  int32_t code;    /* SENT: SeTransportCode; OK says that it left, not that it was received */
} SeTransportEvent;

typedef struct SeTransportMessage {
  int32_t peer;
  const void* data; /* 64-byte aligned; until release */
  uint64_t bytes;
  void* owner; /* the transport's */
} SeTransportMessage;

typedef struct SeTransport SeTransport;

typedef struct SeTransportTable {
  uint32_t table_bytes; /* sizeof(SeTransportTable) */
  const char* name;     /* "local", "ucx" */

  int32_t (*open)(const SeTransportOptions* options, SeTransport** transport, SeStatus* status);
  /* What a peer connects to. capacity: SE_TRANSPORT_MAX_ADDRESS_BYTES is always enough. */
  int32_t (*address)(SeTransport* transport, void* address, uint64_t capacity, uint64_t* bytes,
                     SeStatus* status);
  /* Once per peer, which need not be there yet: what does not come about is a PEER_LOST event. */
  int32_t (*connect)(SeTransport* transport, int32_t peer, const void* address, uint64_t bytes,
                     SeStatus* status);
  /* Returns at once. data stays until the SENT event of the ticket, which comes whatever happens, but
   * not after close. */
  int32_t (*send)(SeTransport* transport, int32_t peer, const void* data, uint64_t bytes,
                  uint64_t* ticket, SeStatus* status);
  /* The oldest message that has arrived; owner NULL: there is none. */
  int32_t (*recv)(SeTransport* transport, SeTransportMessage* message, SeStatus* status);
  /* Any thread, until close. */
  void (*release)(SeTransport* transport, SeTransportMessage* message);
  /* Waits for the next event, timeout_ns at most. */
  int32_t (*poll)(SeTransport* transport, int64_t timeout_ns, SeTransportEvent* event,
                  SeStatus* status);
  /* Makes the poll that waits, or the next one, return SE_EVENT_NONE at once. */
  void (*wake)(SeTransport* transport);
  /* Gives up a send: its SENT event comes soon, with CANCELLED unless it had left. */
  void (*cancel)(SeTransport* transport, uint64_t ticket);
  int32_t (*peer_state)(SeTransport* transport, int32_t peer); /* SePeerState */
  /* Messages that were not released are gone with it. Peers see this rank lost. */
  void (*close)(SeTransport* transport);
} SeTransportTable;

#ifdef __cplusplus
}
#endif

#endif /* SPARSE_EXPERTS_TRANSPORT_H_ */
