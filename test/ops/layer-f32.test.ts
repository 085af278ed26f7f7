import { layerSuite } from './layer-suite.js'

layerSuite('f32')
