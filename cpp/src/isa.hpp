// Which instruction sets code outside of the decoder may use: OMNISTREAM_FORCE_ISA holds for it, too.
#pragma once

#include <cstdlib>
#include <string_view>

namespace omnistream {

// Whether code for `isa`, "avx2" or "avx512", may run if the CPU has it. What is forced may use what it
// includes; names that are none of x86-64 are passed over, as the decoder does.
inline bool wants_isa(std::string_view isa) {
    const char* const name = std::getenv("OMNISTREAM_FORCE_ISA");
    const std::string_view forced = name == nullptr ? "" : name;
    return forced != "portable" && (forced != "avx2" || isa == "avx2");
}

}  // namespace omnistream
