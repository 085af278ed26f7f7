import { layerSuite } from './layer-suite.js'

layerSuite('bf16')
