/**
 * Under qemu-user a program cannot start the emulated Node by its own path, and vitest's process is this machine's: child processes begin with
 * the script that runs that Node emulated.
 */
process.execPath = process.env.SE_TEST_NODE
