# The addon on Windows, compiled by mingw-w64's g++.
#
# Node's functions lie in the program that loads the addon: node.exe, or whatever it was renamed to, or Electron. A library that imports
# from "node.exe" works in the first alone, so binding/node_imports.cc looks each function up in the program itself. Its list of them is
# made here from the definition file of node-api-headers.
execute_process(
  COMMAND node -p "require('node-api-headers').def_paths.node_api_def"
  WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}
  OUTPUT_VARIABLE SE_NODE_API_DEF OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
file(TO_CMAKE_PATH "${SE_NODE_API_DEF}" SE_NODE_API_DEF)
file(STRINGS ${SE_NODE_API_DEF} SE_NODE_API_NAMES REGEX "^(napi|node_api)_[a-z0-9_]+$")
list(TRANSFORM SE_NODE_API_NAMES REPLACE "(.+)" "SE_NODE_IMPORT(\\1)")
list(JOIN SE_NODE_API_NAMES "\n" SE_NODE_API_TEXT)
file(CONFIGURE OUTPUT generated/node_api_names.inc CONTENT "${SE_NODE_API_TEXT}\n")

target_sources(sparse_experts PRIVATE csrc/binding/node_imports.cc)
target_include_directories(sparse_experts PRIVATE ${CMAKE_BINARY_DIR}/generated)
# All of the compiler's own libraries inside: a user's machine has none of them.
target_link_options(sparse_experts PRIVATE -static LINKER:--gc-sections)
