// The only place that includes Node-API headers, so that every file sees them with the same
// switches.
#pragma once

#ifndef NAPI_VERSION
#define NAPI_VERSION 9
#endif
#ifndef NODE_ADDON_API_DISABLE_DEPRECATED
#define NODE_ADDON_API_DISABLE_DEPRECATED
#endif
// Every std::exception that leaves a callback becomes a JavaScript error instead of ending the
// process.
#ifndef NODE_ADDON_API_CPP_EXCEPTIONS_ALL
#define NODE_ADDON_API_CPP_EXCEPTIONS_ALL
#endif
// Finalizers run inside the garbage collector: none may call into JavaScript.
#ifndef NODE_ADDON_API_REQUIRE_BASIC_FINALIZERS
#define NODE_ADDON_API_REQUIRE_BASIC_FINALIZERS
#endif
// While a worker terminates, no exception can be thrown any more; without this the process would
// abort.
#ifndef NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS
#define NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS
#endif

#include <napi.h>
