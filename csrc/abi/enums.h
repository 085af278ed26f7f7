/* Generated from spec/enums.json by tools/build/spec.mjs: do not edit. Part of the C ABI
 * (abi/backend.h): a changed number or meaning raises SE_BACKEND_ABI_VERSION. */
#ifndef SPARSE_EXPERTS_ENUMS_H_
#define SPARSE_EXPERTS_ENUMS_H_

/* Elements of an array, and the arithmetic of a layer (f32, f16 or bf16). */
typedef enum SeDtype { SE_F32 = 0, SE_F16 = 1, SE_BF16 = 2, SE_I32 = 3, SE_U8 = 4 } SeDtype;

/* What a matrix stores for each weight. Only the float codes are values by themselves. */
typedef enum SeMatrixCode {
  SE_CODE_F32 = 0,
  SE_CODE_F16 = 1,
  SE_CODE_BF16 = 2,
  SE_CODE_U2 = 3,  /* an index into the value table */
  SE_CODE_U3 = 4,  /* an index into the value table */
  SE_CODE_U4 = 5,  /* an index into the value table */
  SE_CODE_U5 = 6,  /* an index into the value table */
  SE_CODE_U6 = 7,  /* an index into the value table */
  SE_CODE_I8 = 8,  /* a signed integer */
  SE_CODE_E4M3 = 9 /* e4m3fn: bias 7, no infinity, 0x7f and 0xff are NaN */
} SeMatrixCode;

/* How a code becomes a value before it is scaled. */
typedef enum SeValueTable {
  SE_TABLE_NONE = 0,     /* the code is the value */
  SE_TABLE_Q = 1,        /* the index */
  SE_TABLE_Q2 = 2,       /* the index less 2 */
  SE_TABLE_Q4 = 3,       /* the index less 4 */
  SE_TABLE_Q8 = 4,       /* the index less 8 */
  SE_TABLE_Q16 = 5,      /* the index less 16 */
  SE_TABLE_Q32 = 6,      /* the index less 32 */
  SE_TABLE_E2M1 = 7,     /* floats of 4 bits */
  SE_TABLE_IQ4_NL = 8,   /* ggml's values of 4 bits */
  SE_TABLE_IQ1 = 9,      /* -1, 0 and 1, each plus or minus an eighth */
  SE_TABLE_IQ2 = 10,     /* ggml's values of 2 bits and a sign */
  SE_TABLE_IQ3_XXS = 11, /* ggml's values of 3 bits and a sign */
  SE_TABLE_IQ3_S = 12    /* odd numbers to 15 and a sign */
} SeValueTable;

/* What multiplies the values of one block. */
typedef enum SeScale {
  SE_SCALE_NONE = 0,
  SE_SCALE_F32 = 1,
  SE_SCALE_F16 = 2,
  SE_SCALE_BF16 = 3,
  SE_SCALE_E8M0 = 4, /* 2^(byte - 127); 255 is NaN */
  SE_SCALE_E4M3 = 5,
  SE_SCALE_U8 = 6, /* times the f16 scale of its super block */
  SE_SCALE_I8 = 7  /* times the f16 scale of its super block */
} SeScale;

/* What shifts the values of one block. */
typedef enum SeOffset {
  SE_OFFSET_NONE = 0,
  SE_OFFSET_ZERO = 1, /* i8, taken from the table's value before it is scaled */
  SE_OFFSET_F16 = 2,  /* added to the scaled value */
  SE_OFFSET_U8 = 3 /* times the second f16 scale of its super block, taken from the scaled value */
} SeOffset;

/* What a device does with a format under a dtype (SeBackend.matrix_format). */
typedef enum SeFormatSupport {
  SE_FORMAT_NO = 0,       /* neither computed nor converted */
  SE_FORMAT_AS_IS = 1,    /* computed in place */
  SE_FORMAT_CONVERTED = 2 /* held in the format that the answer names */
} SeFormatSupport;

/* What becomes of router logits: what experts are selected by, and what weighs them. */
typedef enum SeScoring {
  SE_SOFTMAX = 0,       /* softmax over all experts, then select */
  SE_SIGMOID = 1,       /* sigmoid of each, then select */
  SE_SQRT_SOFTPLUS = 2, /* square root of softplus of each, then select */
  SE_TOPK_SOFTMAX = 3,  /* select on logits, softmax over the selected */
  SE_TOPK_SIGMOID = 4,  /* select on logits, sigmoid of the selected */
  SE_SPARSEMIXER = 5    /* Phi-3.5-MoE, two rounds, top_k == 2 */
} SeScoring;

/* What a group of experts is ranked by, and what its experts rank with where it is left out. */
typedef enum SeGroupScore {
  SE_GROUP_MAX = 0,            /* its best expert */
  SE_GROUP_TOP2_SUM = 1,       /* the sum of its two best */
  SE_GROUP_TOP2_SUM_ZEROED = 2 /* the same; experts of other groups rank with 0, not -inf */
} SeGroupScore;

/* What the selected weights are divided by. */
typedef enum SeNormalization {
  SE_NORM_NONE = 0,
  SE_NORM_SUM = 1,   /* w /= sum(w) + norm_value */
  SE_NORM_FLOOR = 2, /* w /= max(sum(w), norm_value) */
  SE_NORM_P = 3      /* w /= (sum |w|^norm_value)^(1/norm_value) */
} SeNormalization;

/* How many tokens an expert may take. */
typedef enum SeCapacity {
  SE_CAPACITY_NONE = 0,         /* there is none */
  SE_CAPACITY_PER_SEQUENCE = 1, /* Switch Transformers: rank within the sequence, top-1 */
  SE_CAPACITY_BATCH = 2         /* NLLB-MoE: top-2 over the flattened batch */
} SeCapacity;

/* Activation of an expert's intermediate values. */
typedef enum SeActivation {
  SE_SILU = 0,      /* v * sigmoid(alpha * v) */
  SE_GELU = 1,      /* the erf form */
  SE_GELU_TANH = 2, /* the tanh form */
  SE_RELU = 3,
  SE_RELU2 = 4, /* max(v, 0)^2 */
  SE_IDENTITY = 5,
  SE_SITU = 6 /* alpha * tanh(v / alpha) * sigmoid(v); up becomes limit * tanh(up / limit) */
} SeActivation;

/* How the shared expert joins the routed sum. */
typedef enum SeSharedGate {
  SE_SHARED_PLAIN = 0,   /* y = routed + shared */
  SE_SHARED_SIGMOID = 1, /* y = routed + c * shared, c = sigmoid(shared_gate . x) */
  SE_SHARED_MIX = 2      /* y = (1 - c) * routed + c * shared */
} SeSharedGate;

#endif /* SPARSE_EXPERTS_ENUMS_H_ */
