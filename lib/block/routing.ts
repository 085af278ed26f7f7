/** The routing rules: how experts and weights follow from router logits. A union of types, so that TypeScript refuses impossible rules. */

import type { CapacityKind, GroupScore, NormalizationKind, ScoredFunc, ScoringFunc } from '../spec/enums.js'

/** Renormalisation of the selected weights. */
export type Normalization =
  | { normTopkProb: false; normEpsilon?: never; normFloor?: never; normOrder?: never }
  /** `w /= sum(w) + normEpsilon` (default 0). */
  | { normTopkProb: true; normEpsilon?: number; normFloor?: never; normOrder?: never }
  /** `w /= max(sum(w), normFloor)` (ERNIE 4.5, NLLB-MoE). */
  | { normTopkProb: true; normFloor: number; normEpsilon?: never; normOrder?: never }
  /** `w /= (sum |w|^normOrder)^(1/normOrder)` (DBRX). */
  | { normTopkProb: true; normOrder: number; normEpsilon?: never; normFloor?: never }

/** Group-limited selection: contiguous groups, of which the best `topkGroup` stay, all other experts masked. */
export type Grouping =
  | { numExpertGroups?: 1; topkGroup?: 1; groupScore?: never }
  | {
      numExpertGroups: number
      topkGroup: number
      /**
       * A group's best expert, or the sum of its two best; other experts are masked with −∞, or with 0 by `top2_sum_zeroed` (A.X-K1): then
       * one of them is chosen before a negative score. @defaultValue as DeepSeek: 'max' for softmax (V2), else 'top2_sum' (V3)
       */
      groupScore?: GroupScore
    }

interface RoutingSize {
  /** Experts that hold weights, E ≥ 1. */
  numExperts: number
  /** Experts per token, 1 ≤ topK ≤ E + numIdentityExperts. */
  topK: number
  /** Router outputs behind the real experts that stand for "the input itself" (LongCat); ids E … E+Z−1. @defaultValue 0 */
  numIdentityExperts?: number
  /** Multiplies the weights once, after renormalisation. @defaultValue 1 */
  routedScalingFactor?: number
  /** Logits become `cap * tanh(z / cap)` first. @defaultValue none */
  logitSoftcap?: number
}

/** Scores over all experts, then top-k of score (+ selection bias); the weights are the unbiased scores. */
export type ScoredRouting = RoutingSize & {
  scoringFunc: ScoredFunc
  hashRouted?: false
  capacity?: undefined
} & Normalization &
  Grouping

/** Ids from a frozen table indexed by token id (DeepSeek-V4's first layers); scores still weigh them. */
export type HashRouting = RoutingSize & {
  scoringFunc: ScoredFunc
  hashRouted: true
  numExpertGroups?: 1
  topkGroup?: 1
  groupScore?: never
  capacity?: undefined
} & Normalization

interface Ungrouped {
  numExpertGroups?: 1
  topkGroup?: 1
  groupScore?: never
  hashRouted?: false
}

interface SelfNormalized extends Ungrouped {
  normEpsilon?: never
  normFloor?: never
  normOrder?: never
  capacity?: undefined
}

/** Top-k of the logits, softmax over those k: normalised by construction. */
export type TopkSoftmaxRouting = RoutingSize &
  SelfNormalized & { scoringFunc: 'topk_softmax'; normTopkProb?: true }

/** Top-k of the logits, sigmoid of each (Llama 4): never normalised. */
export type TopkSigmoidRouting = RoutingSize &
  SelfNormalized & { scoringFunc: 'topk_sigmoid'; normTopkProb?: false }

/** Phi-3.5-MoE's two rounds of thresholded softmax: top-2, never normalised. */
export type SparsemixerRouting = Omit<RoutingSize, 'topK'> &
  SelfNormalized & {
    scoringFunc: 'sparsemixer'
    topK: 2
    /** `router_jitter_noise`: logits within 2ε (relative) of the best stay in the softmax. */
    sparsemixerEpsilon: number
    normTopkProb?: false
  }

/** Softmax routing of encoder-decoder models whose experts hold a limited number of tokens. */
export type CapacityRouting = Omit<RoutingSize, 'topK' | 'numIdentityExperts'> &
  Ungrouped & { scoringFunc: 'softmax'; numIdentityExperts?: 0 } & (
    | {
        /** Switch Transformers: top-1; a token is kept while its rank among the tokens of its sequence ≤ expertCapacity. */
        topK: 1
        capacity: { kind: 'per_sequence'; expertCapacity: number }
        normTopkProb: false
        normEpsilon?: never
        normFloor?: never
        normOrder?: never
      }
    | {
        /** NLLB-MoE: top-2 over the flattened batch, second choices ranked behind all first ones. */
        topK: 2
        capacity: {
          kind: 'batch'
          /** Tokens per expert; ≤ 0 or absent: `2 * ceil(T / E)`. */
          expertCapacity?: number
          /** > 0: capacity is `ceil(fraction * T)` instead. */
          tokenFraction?: number
          normalizeBeforeDropping?: boolean
          batchPrioritized?: boolean
        }
        normTopkProb: true
        normFloor: number
        normEpsilon?: never
        normOrder?: never
      }
  )

/** The rule alone, without tensors. */
export type RoutingRule =
  | ScoredRouting
  | HashRouting
  | TopkSoftmaxRouting
  | TopkSigmoidRouting
  | SparsemixerRouting
  | CapacityRouting

/** Tensors that a rule may use. */
export interface RoutingVectors {
  /** `[E+Z]` added to the scores for selection only ("e_score_correction_bias"). */
  selectionBias?: Float32Array
  /** `[E+Z]` multiplies the weight after renormalisation (Gemma 4). */
  perExpertScale?: Float32Array
  /** `[vocabSize, topK]` expert ids, for `hashRouted`. */
  hashTable?: Int32Array
}

/** What {@link stages.selectExperts} takes: the rule and its tensors. */
export type RoutingConfig = RoutingRule & RoutingVectors

/** A rule with every default written out; what backends read. Made by `resolveRouting` only. */
export interface ResolvedRouting {
  readonly scoringFunc: ScoringFunc
  readonly hashRouted: boolean
  readonly numExperts: number
  readonly numIdentityExperts: number
  readonly topK: number
  readonly numExpertGroups: number
  readonly topkGroup: number
  readonly groupScore: GroupScore
  readonly normTopkProb: boolean
  readonly normalization: NormalizationKind
  /** Epsilon, floor or order, by `normalization`. */
  readonly normValue: number
  readonly routedScalingFactor: number
  /** 0: none. */
  readonly logitSoftcap: number
  readonly sparsemixerEpsilon: number
  readonly capacity: null | {
    readonly kind: CapacityKind
    readonly expertCapacity: number
    readonly tokenFraction: number
    readonly normalizeBeforeDropping: boolean
    readonly batchPrioritized: boolean
  }
}
