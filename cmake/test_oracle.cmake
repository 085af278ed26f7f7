# What the C++ tests of every backend compare with: random layers, the block in double precision, the case table and its bounds.
#   test_oracle  a library; programs of se_test_program() link it
if(TARGET test_oracle OR NOT TARGET test_support)
  return()
endif()

# The case table as C++, made anew when it changes.
find_program(SE_NODE node REQUIRED)
set(SE_CASES_HEADER ${CMAKE_BINARY_DIR}/generated/cases.h)
set(SE_CASES_SCRIPT ${SE_TEST_DIRECTORY}/cases/cpp-header.mjs)
execute_process(COMMAND ${SE_NODE} ${SE_CASES_SCRIPT} ${SE_CASES_HEADER}
  WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} OUTPUT_VARIABLE SE_CASES_INPUTS OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
string(REPLACE "\n" ";" SE_CASES_INPUTS "${SE_CASES_INPUTS}")
list(TRANSFORM SE_CASES_INPUTS PREPEND ${CMAKE_SOURCE_DIR}/)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${SE_CASES_INPUTS} ${SE_CASES_SCRIPT})

add_library(test_oracle STATIC EXCLUDE_FROM_ALL
  ${SE_TEST_DIRECTORY}/oracle/experts.cc
  ${SE_TEST_DIRECTORY}/oracle/fixture.cc
  ${SE_TEST_DIRECTORY}/oracle/packed_layer.cc
  ${SE_TEST_DIRECTORY}/oracle/quantised.cc
  ${SE_TEST_DIRECTORY}/oracle/routing.cc)
target_include_directories(test_oracle PUBLIC ${CMAKE_BINARY_DIR}/generated ${SE_TEST_DIRECTORY})
target_link_libraries(test_oracle PUBLIC se_flags)
# The assertions' headers; the runner itself is the program's.
target_include_directories(test_oracle SYSTEM PRIVATE $<TARGET_PROPERTY:test_support,INTERFACE_SYSTEM_INCLUDE_DIRECTORIES>)
target_compile_definitions(test_oracle PRIVATE $<TARGET_PROPERTY:test_support,INTERFACE_COMPILE_DEFINITIONS>)
