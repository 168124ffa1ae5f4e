#include "decode_target.hpp"

#define OMNI_ISA portable
#include "simd_portable.hpp"
// The decoder, written once:
#include "decode_blocks.hpp"
