{
  # CMakeLists.txt is the only build description; this target runs it. Not in the published tarball: npm would run it unasked.
  "targets": [
    {
      "target_name": "sparse_experts",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "message": "CMake builds the addon",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(PRODUCT_DIR)/sparse_experts.node"],
          "action": ["node", "tools/build/native.mjs", "<(PRODUCT_DIR)"]
        }
      ]
    }
  ]
}
