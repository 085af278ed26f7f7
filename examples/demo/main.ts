/**
 * The demo. By default the small trained model of examples/tiny-deepseek writes a text, see trained.ts; with `--random` one larger layer of
 * random weights in DeepSeek-V3's published layout is written, loaded and checked, see random-layer.ts.
 *
 *   npm run demo -- [--device auto|cpu|cuda|reference] [--quick] [--prompt TEXT] [--seed N] [--html FILE] [--svg FILE]
 *   npm run demo -- --random [--device …] [--quick]
 */

if (process.argv.includes('--random')) await import('./random-layer.js')
else await import('./trained.js')
