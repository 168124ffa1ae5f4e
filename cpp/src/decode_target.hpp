// Compiling the decoder for an instruction set: only what stands between OMNI_TARGET_BEGIN and _END may use
// it.
//
// All shared headers are included here, before any such region. Were whole files compiled with -mavx512f, the
// linker could keep their copies of inline functions (std::vector's, ours) for everybody, and an older CPU
// would die in them.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "decode_kernel.hpp"
#include "decode_lanes.hpp"
#include "decode_plan.hpp"
#include "decode_values.hpp"
#include "json_values.hpp"
#include "omnistream/decode.hpp"
#include "utf8_tables.hpp"

#define OMNI_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define OMNI_TARGET_BEGIN(isa) \
    OMNI_PRAGMA(clang attribute push(__attribute__((target(isa))), apply_to = function))
#define OMNI_TARGET_END _Pragma("clang attribute pop")
#else
#define OMNI_TARGET_BEGIN(isa) _Pragma("GCC push_options") OMNI_PRAGMA(GCC target(isa))
#define OMNI_TARGET_END _Pragma("GCC pop_options")
#endif
