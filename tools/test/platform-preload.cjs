/** Under qemu-user a program cannot start the emulated Node by its own path: child processes begin with the script that runs it emulated. */
process.execPath = process.env.SE_TEST_NODE
