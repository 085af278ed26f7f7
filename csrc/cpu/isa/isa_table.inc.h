// The table of an instruction set's functions, included by its file inside the unnamed namespace
// behind the functions. The arguments are what only some sets have: bf16 activations by bf16 weights.

constexpr IsaKernels make_table(const char* name, MatmulFunction bf16_rows = nullptr,
                                PanelMatmulFunction bf16_panels = nullptr) {
  return {name,
          int64_t{PanelTraits<SE_F32>::kVectors} * V::kLanes,
          {{SE_F32, SE_CODE_F32, matmul<DotTraits<SE_F32>>, panel_matmul<PanelTraits<SE_F32>>},
           {SE_F32, SE_CODE_F16, matmul<DotTraits<SE_F16>>, panel_matmul<PanelTraits<SE_F16>>},
           {SE_F32, SE_CODE_BF16, matmul<DotTraits<SE_BF16>>, panel_matmul<PanelTraits<SE_BF16>>},
           {SE_BF16, SE_CODE_BF16, bf16_rows, bf16_panels},
           {SE_F32, SE_CODE_U2, nullptr, quant_matmul<SE_CODE_U2>},
           {SE_F32, SE_CODE_U3, nullptr, quant_matmul<SE_CODE_U3>},
           {SE_F32, SE_CODE_U4, nullptr, quant_matmul<SE_CODE_U4>},
           {SE_F32, SE_CODE_U5, nullptr, quant_matmul<SE_CODE_U5>},
           {SE_F32, SE_CODE_U6, nullptr, quant_matmul<SE_CODE_U6>},
           {SE_F32, SE_CODE_I8, nullptr, quant_matmul<SE_CODE_I8>},
           {SE_F32, SE_CODE_E4M3, nullptr, quant_matmul<SE_CODE_E4M3>}},
          activate,
          axpy,
          scale,
          widen,
          narrow};
}
