# doctest for the C++ tests, and what they share of test/cpp:
#   test_support  include directories, assertions of arrays, and the runner without a main
# Only who builds tests needs doctest. Where it is missing, a target of se_test_program() says so when it is built.
find_path(SE_DOCTEST_DIRECTORY doctest/doctest.h HINTS /usr/include NO_CMAKE_FIND_ROOT_PATH)
set(SE_TEST_DIRECTORY ${CMAKE_CURRENT_LIST_DIR}/../test)

if(SE_DOCTEST_DIRECTORY AND NOT TARGET test_support)
  # A directory with this header alone: a cross compiler must not see the others of /usr/include.
  set(SE_DOCTEST_INCLUDE ${CMAKE_BINARY_DIR}/doctest-include)
  file(MAKE_DIRECTORY ${SE_DOCTEST_INCLUDE})
  file(CREATE_LINK ${SE_DOCTEST_DIRECTORY}/doctest ${SE_DOCTEST_INCLUDE}/doctest SYMBOLIC)
  add_library(test_support OBJECT EXCLUDE_FROM_ALL ${SE_TEST_DIRECTORY}/cpp/runner.cc)
  target_compile_features(test_support PUBLIC cxx_std_17)
  target_include_directories(test_support PUBLIC ${SE_TEST_DIRECTORY})
  target_include_directories(test_support SYSTEM PUBLIC ${SE_DOCTEST_INCLUDE})
  target_compile_definitions(test_support PUBLIC
    # A check in a condition decides whether the rest of its test makes sense.
    DOCTEST_CONFIG_ASSERTS_RETURN_VALUES)
  if(TARGET se_sanitize)
    target_link_libraries(test_support PRIVATE se_sanitize)
  endif()
  # AddressSanitizer looks for faults of this project, and compiling doctest for it takes half a minute.
  if(SE_SANITIZE MATCHES address)
    set_source_files_properties(${SE_TEST_DIRECTORY}/cpp/runner.cc PROPERTIES COMPILE_OPTIONS "-O1;-fno-sanitize=all")
  endif()
endif()

# se_test_program(NAME SOURCE…): an executable over doctest, not part of the default build.
function(se_test_program name)
  if(NOT TARGET test_support)
    add_custom_target(${name}
      COMMAND ${CMAKE_COMMAND} -E echo "${name} needs doctest: apt install doctest-dev, or -DSE_DOCTEST_DIRECTORY=… where doctest/doctest.h is"
      COMMAND ${CMAKE_COMMAND} -E false)
    return()
  endif()
  add_executable(${name} EXCLUDE_FROM_ALL ${ARGN})
  target_link_libraries(${name} PRIVATE test_support)
endfunction()

# Links libraries to a program of se_test_program(), where it is one.
function(se_link_tests name)
  if(TARGET test_support)
    target_link_libraries(${name} PRIVATE ${ARGN})
  endif()
endfunction()
