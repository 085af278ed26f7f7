/** Where the tokens of a call go: `gate` runs the random router, all others replay a recorded routing. */
export type BenchLoad = 'gate' | 'uniform' | 'zipf' | 'same_experts' | 'traced'
