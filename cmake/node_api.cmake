# Node-API headers: cmake-js hands them over in CMAKE_JS_INC; a bare cmake asks node, or takes -DCMAKE_JS_INC=dir;dir.
if(NOT DEFINED CMAKE_JS_INC)
  execute_process(
    COMMAND node -p "[require('node-api-headers').include_dir,require('node-addon-api').include_dir].map(p=>require('path').resolve(p)).join(';')"
    WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}
    OUTPUT_VARIABLE CMAKE_JS_INC
    OUTPUT_STRIP_TRAILING_WHITESPACE
    RESULT_VARIABLE SE_NODE_RESULT)
  if(NOT SE_NODE_RESULT EQUAL 0)
    message(FATAL_ERROR "Node-API headers not found: run npm ci first, or pass -DCMAKE_JS_INC=<directories>")
  endif()
endif()
