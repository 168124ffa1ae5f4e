#include "decode_target.hpp"

#if defined(__aarch64__)
#include <arm_neon.h>

#define OMNI_ISA neon
#include "simd_neon.hpp"
// The decoder, written once:
#include "decode_blocks.hpp"
#endif
