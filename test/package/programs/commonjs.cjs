const { MoeLayer } = require('sparse-experts')
const tiny = require('./tiny.cjs')

tiny.compare(MoeLayer, process.argv[2]).then(result => console.log(JSON.stringify(result)))
