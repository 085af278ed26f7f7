/**
 * The package as it ships, compiled: what runs under the benchmarks' loader of TypeScript gives each closure a name when it is made, and a
 * call is then microseconds slower. Also what bench/peers, a package of its own, finds it by.
 */

export * from 'sparse-experts'
