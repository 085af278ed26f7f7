// The one function that programs ask of Windows's bcryptprimitives.dll, which Wine 8 lacks: random bytes.
#include <windows.h>

#include <ntsecapi.h>

extern "C" __declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE* data, SIZE_T bytes) {
  return RtlGenRandom(data, static_cast<ULONG>(bytes));
}
