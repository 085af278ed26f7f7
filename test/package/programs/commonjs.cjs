const { MoeLayer } = require('sparse-experts')
const { compare } = require('./tiny.mjs')

compare(MoeLayer, process.argv[2]).then(result => console.log(JSON.stringify(result)))
