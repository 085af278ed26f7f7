# The architectures that the CUDA backend is compiled for: the one table. "N-real": machine code for compute capability N alone; a plain
# "N": machine code and PTX, which a driver compiles for newer cards at first use.
#
#   80   A100, A30: the design target. cp.async, ldmatrix and mma.sync of 16-bit types begin here; nothing older can run the kernels
#   86   A10, A40, RTX 30: same instructions, 99 KiB of shared memory per block instead of 163
#   89   L4, L40S, RTX 40
#   90   H100, H200, GH200: the kernels of kernels/sm90, on wgmma, are compiled for 90a beside it
#   100  B200, GB200
#   120  RTX 50, RTX PRO Blackwell; its PTX serves whatever comes later
set(SE_CUDA_ALL_ARCHITECTURES 80-real 86-real 89-real 90-real 100-real 120)

# Compilers before 12.8 know neither 100 nor 120: PTX of 90 serves those cards.
set(SE_CUDA_ALL_ARCHITECTURES_BEFORE_12_8 80-real 86-real 89-real 90)

# "80-real;120" → "80 120 120+ptx": what the library says of itself.
function(se_describe_architectures architectures result)
  set(words "")
  foreach(architecture IN LISTS architectures)
    string(REGEX REPLACE "-(real|virtual)$" "" number ${architecture})
    if(NOT architecture MATCHES "-virtual$")
      list(APPEND words ${number})
    endif()
    if(NOT architecture MATCHES "-real$")
      list(APPEND words ${number}+ptx)
    endif()
  endforeach()
  list(JOIN words " " text)
  set(${result} "${text}" PARENT_SCOPE)
endfunction()
