// The table of an instruction set's functions, included by its file inside the unnamed namespace
// behind the functions. The arguments are what not all sets have or have in the same way: rows of
// codes, and bf16 activations by bf16 weights and by quantised ones.

struct Bf16Products {
  MatmulFunction rows = nullptr;
  PanelMatmulFunction panels = nullptr;
  PanelMatmulFunction quant[kNumQuantCodes] = {};  // from SE_CODE_U2 on
};

constexpr IsaKernels make_table(const char* name, const CodedProducts* coded,
                                const Bf16Products& bf16 = {}) {
  return {name,
          kWidth,
          {{SE_F32, SE_CODE_F32, matmul<DotTraits<SE_F32>>, panel_matmul<PanelTraits<SE_F32>>},
           {SE_F32, SE_CODE_F16, matmul<DotTraits<SE_F16>>, panel_matmul<PanelTraits<SE_F16>>},
           {SE_F32, SE_CODE_BF16, matmul<DotTraits<SE_BF16>>, panel_matmul<PanelTraits<SE_BF16>>},
           {SE_BF16, SE_CODE_BF16, bf16.rows, bf16.panels},
           {SE_F32, SE_CODE_U2, nullptr, quant_matmul<SE_CODE_U2>},
           {SE_F32, SE_CODE_U3, nullptr, quant_matmul<SE_CODE_U3>},
           {SE_F32, SE_CODE_U4, nullptr, quant_matmul<SE_CODE_U4>},
           {SE_F32, SE_CODE_U5, nullptr, quant_matmul<SE_CODE_U5>},
           {SE_F32, SE_CODE_U6, nullptr, quant_matmul<SE_CODE_U6>},
           {SE_F32, SE_CODE_I8, nullptr, quant_matmul<SE_CODE_I8>},
           {SE_F32, SE_CODE_E4M3, nullptr, quant_matmul<SE_CODE_E4M3>},
           {SE_BF16, SE_CODE_U2, nullptr, bf16.quant[0]},
           {SE_BF16, SE_CODE_U3, nullptr, bf16.quant[1]},
           {SE_BF16, SE_CODE_U4, nullptr, bf16.quant[2]},
           {SE_BF16, SE_CODE_U5, nullptr, bf16.quant[3]},
           {SE_BF16, SE_CODE_U6, nullptr, bf16.quant[4]},
           {SE_BF16, SE_CODE_I8, nullptr, bf16.quant[5]},
           {SE_BF16, SE_CODE_E4M3, nullptr, bf16.quant[6]}},
          coded,
          activate,
          axpy,
          scale,
          widen,
          narrow,
          encode};
}
