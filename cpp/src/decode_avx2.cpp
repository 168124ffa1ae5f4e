#include "decode_target.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#define OMNI_ISA avx2
OMNI_TARGET_BEGIN("avx2,bmi,bmi2,lzcnt,popcnt")
#include "simd_avx2.hpp"
// The decoder, written once:
#include "decode_blocks.hpp"
OMNI_TARGET_END
#endif
