#include "decode_target.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#define OMNI_ISA avx512
OMNI_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,gfni,avx2,bmi,bmi2,lzcnt,popcnt")
#include "simd_avx512.hpp"
// The decoder, written once:
#include "decode_blocks.hpp"
OMNI_TARGET_END
#endif
